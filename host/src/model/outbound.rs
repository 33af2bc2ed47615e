//! Outbound HTTP: to which origins a plugin may speak, and the secrets that the host adds on the way.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Serialize;
use url::{Host, Url};

/// A place that requests may go to: a scheme, a host and a port. The host may begin with `*.`, for all names below it.
#[derive(Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    /// Without `*.`.
    host: Host<String>,
    below: bool,
    port: u16,
}

impl Origin {
    /// Whether a request to this address goes there.
    #[must_use]
    pub fn covers(&self, url: &Url) -> bool {
        let Some(host) = url.host() else { return false };
        let same = match (&self.host, host) {
            (Host::Domain(own), Host::Domain(other)) => {
                let other = other.strip_suffix('.').unwrap_or(other);
                if self.below { other.strip_suffix(own.as_str()).is_some_and(|rest| rest.ends_with('.')) } else { own == other }
            }
            (Host::Ipv4(own), Host::Ipv4(other)) => *own == other,
            (Host::Ipv6(own), Host::Ipv6(other)) => *own == other,
            (Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_), _) => false,
        };
        same && self.scheme == url.scheme() && Some(self.port) == url.port_or_known_default()
    }

    /// Whether addresses that are not public are meant by name: `localhost`, or an address itself.
    #[must_use]
    pub fn names_private(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Ipv4(_) | Host::Ipv6(_) => true,
        }
    }
}

/// A text that is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected scheme://host or scheme://host:port, such as https://api.example.com or https://*.example.com, found `{found}`")]
pub struct NotAnOrigin {
    found: String,
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let not = || NotAnOrigin { found: text.to_owned() };
        let (plain, below) = match text.split_once("://*.") {
            Some((scheme, host)) => (format!("{scheme}://{host}"), true),
            None => (text.to_owned(), false),
        };
        let url = Url::parse(&plain).map_err(|_| not())?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        if !bare || url.password().is_some() || !matches!(url.scheme(), "http" | "https") || plain.ends_with('/') {
            return Err(not());
        }
        let host = match url.host().ok_or_else(not)?.to_owned() {
            // Whole top-level domains are no origin that anyone means.
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
                if name.split('.').any(str::is_empty) || name.contains('*') || (below && !name.contains('.')) {
                    return Err(not());
                }
                Host::Domain(name)
            }
            address if below => return Err(NotAnOrigin { found: format!("*.{address}") }),
            address => address,
        };
        Ok(Self { scheme: url.scheme().to_owned(), host, below, port: url.port_or_known_default().ok_or_else(not)? })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = if self.below { "*." } else { "" };
        write!(f, "{}://{below}{}", self.scheme, self.host)?;
        let default = if self.scheme == "https" { 443 } else { 80 };
        if self.port == default { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A secret that the host sets as a header of requests to one host. The guest never sees it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Secret {
    /// What the operator calls it.
    pub name: String,
    /// To which host it is sent, and no other.
    pub host: String,
    /// In which header.
    pub header: String,
    /// What stands before it in the header, such as `Bearer `.
    pub prefix: String,
    /// The secret itself.
    #[serde(skip)]
    pub value: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).field("host", &self.host).field("header", &self.header).finish_non_exhaustive()
    }
}

/// Whether an address is of the public internet: not this machine's, not of a private network, not a service beside the machine
/// (the metadata of clouds), not many at once; and none of these in the clothes of another family.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_unspecified()
                || a == 0
                || (a == 100 && (64..128).contains(&b)) // shared by carriers: RFC 6598
                || (a == 192 && b == 0 && c == 0) // RFC 6890
                || (a == 198 && (b == 18 || b == 19)) // benchmarks: RFC 2544
                || v4.octets() == [168, 63, 129, 16] // a cloud's own service
                || a >= 240)
        }
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            let [first, second, ..] = segments;
            let inner = |high: u16, low: u16| {
                let [a, b] = high.to_be_bytes();
                let [c, d] = low.to_be_bytes();
                IpAddr::from([a, b, c, d])
            };
            if let Some(v4) = v6.to_ipv4_mapped() {
                return is_public(IpAddr::V4(v4));
            }
            match (first, second) {
                (0x0064, 0xff9b) if segments[2..6] == [0; 4] => is_public(inner(segments[6], segments[7])), // RFC 6052
                (0x3fff, 0..=0x0fff) => false,                                                              // documentation: RFC 9637
                (0x2002, _) => is_public(inner(segments[1], segments[2])),                                  // RFC 3056
                (0x2001, 0..=0x01ff) => false,                                                              // RFC 2928, Teredo among them
                (0x2001, 0x0db8) => false,                                                                  // documentation
                // Global unicast is 2000::/3, and nothing else is.
                _ => (first & 0xe000) == 0x2000,
            }
        }
    }
}

/// A response that stands in for a service, in an author's test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canned {
    /// The method that it answers, in capitals.
    pub method: String,
    /// The URL that it answers, in full.
    pub url: String,
    /// The status, from 200 to 599.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: bytes::Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_covers_its_own_scheme_host_and_port_by_any_spelling_and_no_other() {
        let covers = |origin: &str, url: &str| origin.parse::<Origin>().expect("an origin").covers(&Url::parse(url).expect("a URL"));
        for (origin, url, expected) in [
            ("https://api.example.com", "https://api.example.com/v1?x", true),
            ("https://api.example.com", "https://API.EXAMPLE.COM:443/", true),
            ("https://api.example.com", "https://api.example.com./", true),
            ("https://api.example.com", "http://api.example.com/", false),
            ("https://api.example.com", "https://api.example.com:8443/", false),
            ("https://api.example.com", "https://api.example.com.evil.net/", false),
            ("https://api.example.com", "https://evil.net/api.example.com", false),
            ("https://*.example.com", "https://a.b.example.com/", true),
            ("https://*.example.com", "https://example.com/", false),
            ("https://*.example.com", "https://evilexample.com/", false),
            ("http://127.0.0.1:80", "http://0x7f.1/", true),
            ("http://127.0.0.1", "http://2130706433/", true),
            ("http://127.0.0.1", "http://localhost/", false),
            ("http://[::1]:8080", "http://[0:0:0:0:0:0:0:1]:8080/", true),
        ] {
            assert_eq!(covers(origin, url), expected, "{origin} and {url}");
        }
        for bad in [
            "",
            "example.com",
            "ftp://example.com",
            "https://example.com/path",
            "https://u:p@example.com",
            "https://*.com",
            "https://*.com.",
            "https://*",
            "https://*.1.2.3.4",
            "https://.",
            "https://example.com..",
            "https://a..example.com",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
        assert_eq!("https://*.Example.com:443".parse::<Origin>().expect("an origin").to_string(), "https://*.example.com");
    }

    #[test]
    fn addresses_that_are_not_public_are_known_in_every_form() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "240.0.0.1",
            "192.0.0.8",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "::127.0.0.1",
            "fec0::1",
            "100::1",
            "64:ff9b:1::101:101",
            "3fff::1",
            "168.63.129.16",
        ] {
            assert!(!is_public(address.parse().expect("an address")), "{address}");
        }
        for address in ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"] {
            assert!(is_public(address.parse().expect("an address")), "{address}");
        }
    }

    #[test]
    fn a_secret_is_never_written() {
        let secret = Secret { name: "n".into(), host: "h".into(), header: "x".into(), prefix: String::new(), value: "hush".into() };
        assert!(!format!("{secret:?}{}", serde_json::to_string(&secret).expect("writes")).contains("hush"));
    }
}
