//! Capabilities: what a plugin *requests*, what the operator *grants*, what the host's *ceiling* caps.
//!
//! Nothing is granted by default. A plugin runs with the intersection; a grant is pinned to the digest of the
//! component it was given to, so that a changed file holds no grant.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::{Digest, Origin, Secret};

/// How many tasks one instance may do at the very most: what it leaks, it leaks no longer than that.
pub const REUSE_MAX: u32 = 10_000;

/// What may be done with a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the words say it")]
pub enum Access {
    Read,
    ReadWrite,
}

impl Access {
    /// The word used in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ReadWrite => "read-write",
        }
    }
}

/// One thing that a plugin asks for, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "capability", rename_all = "snake_case")]
pub enum Request {
    /// A directory, seen by the guest at `at`.
    Files {
        /// Where the guest sees it.
        at: String,
        /// What it may do there.
        access: Access,
        /// One line of why.
        why: String,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        name: String,
        /// One line of why.
        why: String,
    },
    /// The real clocks, in place of the virtual one.
    Clock {
        /// One line of why.
        why: String,
    },
    /// Real randomness, in place of the seeded one.
    Randomness {
        /// One line of why.
        why: String,
    },
    /// Instances that do several tasks, one after another, in place of a fresh one for each. A plugin runs without, too.
    Reuse {
        /// How many tasks one instance may do at most.
        uses: u32,
        /// One line of why.
        why: String,
    },
    /// Requests over HTTP.
    Outbound {
        /// To where: an origin, or `*` for whichever the operator names.
        origin: String,
        /// One line of why.
        why: String,
    },
}

impl Request {
    /// The line of a configuration file that would allow this, inside `[grants.NAME]`.
    #[must_use]
    pub fn grant_line(&self) -> String {
        match self {
            Self::Files { at, access, .. } => {
                format!("files = [{{ path = \"PATH\", at = \"{at}\", access = \"{}\" }}]", access.as_str())
            }
            Self::Environment { name, .. } => format!("environment = [\"{name}\"]"),
            Self::Clock { .. } => "clock = true".to_owned(),
            Self::Randomness { .. } => "randomness = true".to_owned(),
            Self::Reuse { uses, .. } => format!("reuse = {uses}"),
            Self::Outbound { origin, .. } => format!("outbound = [\"{}\"]", if origin == "*" { "https://HOST" } else { origin }),
        }
    }

    /// What is asked for, in a few words.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Files { at, access, .. } => format!("files at {at} ({})", access.as_str()),
            Self::Environment { name, .. } => format!("environment variable {name}"),
            Self::Clock { .. } => "clock".to_owned(),
            Self::Randomness { .. } => "randomness".to_owned(),
            Self::Reuse { uses, .. } => format!("up to {uses} tasks for one instance, where that is granted"),
            Self::Outbound { origin, .. } if origin == "*" => "requests over HTTP, to a host that you name".to_owned(),
            Self::Outbound { origin, .. } => format!("requests to {origin}"),
        }
    }

    /// The reason that the plugin gives.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::Files { why, .. }
            | Self::Environment { why, .. }
            | Self::Clock { why }
            | Self::Randomness { why }
            | Self::Reuse { why, .. }
            | Self::Outbound { why, .. } => why,
        }
    }
}

/// One directory of the host, granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileGrant {
    /// The directory on the host, absolute.
    pub path: PathBuf,
    /// Where the guest sees it.
    pub at: String,
    /// What it may do there.
    pub access: Access,
}

/// What a plugin may touch. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// Directories.
    pub files: Vec<FileGrant>,
    /// Environment variables, with their values.
    #[serde(serialize_with = "names_only")]
    pub environment: BTreeMap<String, String>,
    /// The real clocks.
    pub clock: bool,
    /// Real randomness.
    pub randomness: bool,
    /// How many tasks one instance of a worker may do, one after another; up to one, each has a fresh instance.
    pub reuse: u32,
    /// Where requests over HTTP may go.
    pub outbound: Vec<OutboundGrant>,
    /// Secrets that the host adds to them.
    pub secrets: Vec<Secret>,
}

/// One place that requests over HTTP may go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutboundGrant {
    /// The place.
    pub origin: Origin,
    /// Whether its name may mean an address that is not public.
    pub private: bool,
}

/// Values of environment variables may be secrets: only their names are ever written.
fn names_only<S: serde::Serializer>(map: &BTreeMap<String, String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map.keys())
}

impl Grant {
    /// True where equal inputs must give equal outputs and equal fuel: no clock, no randomness, no network, and nothing that an
    /// instance remembers. Granted files and variables then count as inputs.
    #[must_use]
    pub fn is_deterministic(&self) -> bool {
        !self.clock && !self.randomness && !self.reuses() && self.outbound.is_empty()
    }

    /// Whether an instance may do more than one task.
    #[must_use]
    pub fn reuses(&self) -> bool {
        self.reuse > 1
    }

    /// Whether this grant covers a request.
    #[must_use]
    pub fn covers(&self, request: &Request) -> bool {
        match request {
            Request::Files { at, access, .. } => self.files.iter().any(|f| f.at == *at && f.access >= *access),
            Request::Environment { name, .. } => self.environment.contains_key(name),
            Request::Clock { .. } => self.clock,
            Request::Randomness { .. } => self.randomness,
            Request::Reuse { .. } => true, // without, it has a fresh instance
            Request::Outbound { origin, .. } => self.outbound.iter().any(|granted| wants(origin, &granted.origin)),
        }
    }

    /// This grant without what was never requested: the intersection of grant and requests.
    #[must_use]
    pub fn within(&self, requests: &[Request]) -> Self {
        let files = self.files.iter().filter_map(|granted| {
            let wanted = requests.iter().find_map(|request| match request {
                Request::Files { at, access, .. } if *at == granted.at => Some(*access),
                Request::Files { .. }
                | Request::Environment { .. }
                | Request::Clock { .. }
                | Request::Randomness { .. }
                | Request::Reuse { .. }
                | Request::Outbound { .. } => None,
            })?;
            Some(FileGrant { access: granted.access.min(wanted), ..granted.clone() })
        });
        let outbound = self.outbound.iter().filter(|granted| {
            requests.iter().any(|request| matches!(request, Request::Outbound { origin, .. } if wants(origin, &granted.origin)))
        });
        let bears = |request: &Request| if let Request::Reuse { uses, .. } = request { Some(*uses) } else { None };
        let names = |name: &str| requests.iter().any(|r| matches!(r, Request::Environment { name: n, .. } if n == name));
        Self {
            files: files.collect(),
            environment: self.environment.iter().filter(|(name, _)| names(name)).map(|(n, v)| (n.clone(), v.clone())).collect(),
            clock: self.clock && requests.iter().any(|r| matches!(r, Request::Clock { .. })),
            randomness: self.randomness && requests.iter().any(|r| matches!(r, Request::Randomness { .. })),
            reuse: self.reuse.min(requests.iter().find_map(bears).unwrap_or_default()),
            outbound: outbound.cloned().collect(),
            secrets: self.secrets.clone(),
        }
    }
}

/// Whether a request for an origin means this one.
fn wants(requested: &str, origin: &Origin) -> bool {
    requested == "*" || requested.parse::<Origin>().is_ok_and(|requested| requested == *origin)
}

/// A grant as the operator wrote it: for one component, known by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedGrant {
    /// The component it was given to.
    pub digest: Digest,
    /// What was given.
    pub grant: Grant,
    /// Variables that were given and are not set, so that nobody can have them.
    pub unset: Vec<String>,
}

/// What the host never exceeds, whatever is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ceiling {
    /// The most that any directory may be granted for; `None`: no directories at all.
    pub files: Option<Access>,
    /// Whether environment variables may be granted.
    pub environment: bool,
    /// Whether the real clocks may be granted.
    pub clock: bool,
    /// Whether real randomness may be granted.
    pub randomness: bool,
    /// Whether instances may do more than one task.
    pub reuse: bool,
    /// Whether requests over HTTP may be granted.
    pub outbound: bool,
}

impl Default for Ceiling {
    fn default() -> Self {
        Self { files: Some(Access::ReadWrite), environment: true, clock: true, randomness: true, reuse: true, outbound: true }
    }
}

impl Ceiling {
    /// A grant, capped.
    #[must_use]
    pub fn cap(&self, grant: &Grant) -> Grant {
        let files = self
            .files
            .map_or_else(Vec::new, |most| grant.files.iter().map(|f| FileGrant { access: f.access.min(most), ..f.clone() }).collect());
        Grant {
            files,
            environment: if self.environment { grant.environment.clone() } else { BTreeMap::new() },
            clock: grant.clock && self.clock,
            randomness: grant.randomness && self.randomness,
            reuse: if self.reuse { grant.reuse } else { 0 },
            outbound: if self.outbound { grant.outbound.clone() } else { Vec::new() },
            secrets: if self.outbound { grant.secrets.clone() } else { Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant {
            files: vec![FileGrant { path: "/d".into(), at: "/docs".into(), access: Access::ReadWrite }],
            environment: [("LANG".to_owned(), "C".to_owned()), ("HOME".to_owned(), "/h".to_owned())].into(),
            clock: true,
            randomness: true,
            reuse: 50,
            outbound: vec![OutboundGrant { origin: "https://api.example.com".parse().expect("an origin"), private: false }],
            secrets: Vec::new(),
        }
    }

    #[test]
    fn a_plugin_runs_with_the_intersection_of_request_grant_and_ceiling() {
        let requests = [
            Request::Files { at: "/docs".into(), access: Access::Read, why: String::new() },
            Request::Environment { name: "LANG".into(), why: String::new() },
            Request::Clock { why: String::new() },
        ];
        let effective = Ceiling { clock: false, ..Ceiling::default() }.cap(&grant().within(&requests));
        assert_eq!(effective.files[0].access, Access::Read);
        assert_eq!(effective.environment.keys().collect::<Vec<_>>(), ["LANG"]);
        assert!(!effective.clock, "the ceiling was exceeded");
        assert!(!effective.randomness, "what was never requested was given");
        assert!(effective.outbound.is_empty(), "what was never requested was given");
        assert!(!effective.reuses(), "what was never requested was given");
        assert!(effective.is_deterministic());
        assert!(effective.covers(&requests[0]) && !effective.covers(&requests[2]));
        let bears = |uses| [Request::Reuse { uses, why: String::new() }];
        assert_eq!([9, 50, 99].map(|uses| grant().within(&bears(uses)).reuse), [9, 50, 50], "the smaller number counts");
        assert!(!Ceiling { reuse: false, ..Ceiling::default() }.cap(&grant()).reuses());
        assert!(Grant::default().covers(&bears(9)[0]), "a plugin runs without");
    }

    #[test]
    fn values_of_variables_are_never_written() {
        let text = serde_json::to_string(&grant()).expect("serializes");
        assert!(text.contains("HOME") && !text.contains("/h\""), "{text}");
    }
}
