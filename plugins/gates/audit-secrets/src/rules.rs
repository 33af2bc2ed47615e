//! What is looked for. The forms are those that the issuers document.

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;
use regex_automata::{Anchored, Input};
use sandhog_guest::Severity;

/// By what a secret is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A form that its issuer gives it.
    Form,
    /// Where it stands: there, all is a secret that is no placeholder.
    Place,
    /// The name of what it is assigned to, and how random it looks.
    Name,
}

/// One kind of secret, or one place where it may stand.
pub struct Rule {
    pub id: &'static str,
    /// What it is, for a person.
    pub what: &'static str,
    pub severity: Severity,
    /// Words that its pattern begins with, whatever their case: all of them are looked for at once, and a pattern is only tried where
    /// one of its own stands.
    words: &'static [&'static str],
    /// The part named `secret`, or all of it.
    pattern: &'static str,
    /// What its line must be up to there.
    before: Option<&'static str>,
    /// Tried everywhere in a text that has one of the words: the pattern does not begin with it.
    is_anywhere: bool,
    /// What it has at least, in bits a letter; for those of names, params say it.
    pub entropy: f64,
    pub kind: Kind,
    /// Looked for in files of settings alone, where values stand without quotes.
    pub in_settings: bool,
}

const fn form(
    id: &'static str,
    what: &'static str,
    severity: Severity,
    words: &'static [&'static str],
    pattern: &'static str,
    entropy: f64,
) -> Rule {
    Rule { id, what, severity, words, pattern, before: None, is_anywhere: false, entropy, kind: Kind::Form, in_settings: false }
}

/// What stands where a secret stands.
const fn place(id: &'static str, what: &'static str, words: &'static [&'static str], pattern: &'static str) -> Rule {
    Rule { kind: Kind::Place, ..form(id, what, Severity::High, words, pattern, 2.5) }
}

/// What is assigned to a name.
const fn name(id: &'static str, before: Option<&'static str>, pattern: &'static str) -> Rule {
    let what = "what looks like a secret is assigned to a name that says so";
    Rule { before, kind: Kind::Name, ..form(id, what, Severity::Medium, NAMES, pattern, 0.0) }
}

/// One that is assigned to a name without quotes.
const fn unquoted(before: &'static str, pattern: &'static str) -> Rule {
    Rule { in_settings: true, ..name("unquoted-secret", Some(before), pattern) }
}

/// A word that names of secrets have in them, and what may follow in the name.
macro_rules! named {
    ($($after:tt)*) => {
        concat!(
            r"(?i)(?P<name>(?:secret|token|passw(?:or)?d|passphrase|(?:api|access|private|signing|encryption)[_.-]?key|credential)",
            r"[a-z0-9_.-]{0,20}|(?:auth|pass|pwd)\b)",
            $($after)*
        )
    };
}

/// What stands behind a name and its value in quotes, in whatever language: `cfg["api_key"] = "…"`, `let api_key: &str = "…"`,
/// `var apiKey string = "…"`, `getenv("API_KEY") || "…"`, `get("API_KEY", "…")`, and all of it within a text in quotes.
macro_rules! assigned {
    () => {
        concat!(
            r#"(?:\\?['"]?\s{0,9}[\])]?\s{0,9}(?::\s*[a-z_&][a-z0-9_&<>\[\]|':. ]{0,60}=|string\s*=|\[\]byte\s*=|\[\w{0,20}\]\s*="#,
            r#"|=>|:=|\?\?=?|\|\|=?|\?=|={1,3}|:|\bor\b)\s{0,40}|['"][ \t]{0,9},[ \t]{0,9})\(?\s{0,9}"#,
            r#"[a-z@$]{0,2}\#?\\?['"`](?P<secret>(?:[^\s'"`\\]|\\[^\s'"`]){12,})\\?['"`]"#,
        )
    };
}

/// Words of which one is in every name of a secret.
const NAMES: &[&str] = &[
    "secret",
    "token",
    "pass",
    "pwd",
    "auth",
    "credential",
    "apikey",
    "api_key",
    "api-key",
    "api.key",
    "accesskey",
    "access_key",
    "access-key",
    "access.key",
    "privatekey",
    "private_key",
    "private-key",
    "private.key",
    "signingkey",
    "signing_key",
    "signing-key",
    "signing.key",
    "encryptionkey",
    "encryption_key",
    "encryption-key",
    "encryption.key",
];

/// All of them; of two that find the same place the first one counts.
pub const RULES: &[Rule] = &[
    form(
        "private-key",
        "a private key",
        Severity::Critical,
        &["-----BEGIN "],
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----[\s\S]{32,8000}?-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",
        2.0,
    ),
    form(
        "private-key",
        "a private key",
        Severity::Critical,
        &["PuTTY-User-Key-File"],
        r"PuTTY-User-Key-File-[0-9]:[\s\S]*?Private-Lines: [0-9]+\s+(?P<secret>[A-Za-z0-9+/=\s]{32,}?)\s*Private-(?:MAC|Hash):",
        2.0,
    ),
    form(
        "github-token",
        "a token of GitHub",
        Severity::Critical,
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"],
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})\b",
        3.0,
    ),
    form(
        "gitlab-token",
        "a token of GitLab",
        Severity::Critical,
        &["glpat-", "glptt-", "gldt-", "glrt-"],
        r"\bgl(?:pat|ptt|dt|rt)-[A-Za-z0-9_-]{20,64}",
        3.0,
    ),
    form("aws-access-key", "an access key id of AWS", Severity::High, &["AKIA", "ASIA"], r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b", 3.0),
    form(
        "aws-secret-key",
        "a secret key of AWS",
        Severity::Critical,
        &["aws"],
        r#"(?i)aws_?(?:secret)?_?(?:access)?_?key['"]?\s*(?:=>|[:=])\s*['"]?(?P<secret>[A-Za-z0-9/+]{40})(?:['"\s]|$)"#,
        4.0,
    ),
    form("slack-token", "a token of Slack", Severity::High, &["xox"], r"\bxox[abeoprs]-[A-Za-z0-9-]{10,250}", 3.0),
    form(
        "slack-webhook",
        "a webhook of Slack",
        Severity::Medium,
        &["https://hooks.slack.com"],
        r"https://hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/]{30,90}",
        3.0,
    ),
    form("stripe-key", "a live key of Stripe", Severity::Critical, &["sk_live_", "rk_live_"], r"\b[sr]k_live_[A-Za-z0-9]{20,247}\b", 3.0),
    form("google-api-key", "an API key of Google", Severity::High, &["AIza"], r"\bAIza[A-Za-z0-9_-]{35}\b", 3.0),
    form("google-client-secret", "an OAuth client secret of Google", Severity::High, &["GOCSPX-"], r"\bGOCSPX-[A-Za-z0-9_-]{28}\b", 3.0),
    form("npm-token", "a token of npm", Severity::Critical, &["npm_"], r"\bnpm_[A-Za-z0-9]{36}\b", 3.0),
    form("pypi-token", "a token of PyPI", Severity::Critical, &["pypi-AgEI"], r"\bpypi-AgEI[A-Za-z0-9_-]{50,1000}", 3.0),
    form("crates-io-token", "a token of crates.io", Severity::Critical, &["cio"], r"\bcio[A-Za-z0-9]{32}\b", 3.5),
    form("anthropic-key", "an API key of Anthropic", Severity::High, &["sk-ant-"], r"\bsk-ant-[a-z0-9]{3,10}-[A-Za-z0-9_-]{80,120}", 3.0),
    form(
        "openai-key",
        "an API key of OpenAI",
        Severity::High,
        &["sk-"],
        r"\bsk-(?:(?:proj|svcacct|admin)-[A-Za-z0-9_-]{40,200}|[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20})",
        3.5,
    ),
    form("huggingface-token", "a token of Hugging Face", Severity::High, &["hf_"], r"\bhf_[A-Za-z0-9]{34,40}\b", 3.5),
    form("sendgrid-key", "an API key of SendGrid", Severity::High, &["SG."], r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}\b", 3.0),
    form("twilio-key", "an API key of Twilio", Severity::High, &["SK"], r"\bSK[0-9a-f]{32}\b", 3.0),
    form(
        "digitalocean-token",
        "a token of DigitalOcean",
        Severity::High,
        &["dop_v1_", "doo_v1_", "dor_v1_"],
        r"\bdo[opr]_v1_[a-f0-9]{64}\b",
        3.0,
    ),
    form(
        "azure-storage-key",
        "a storage key of Azure",
        Severity::Critical,
        &["AccountKey="],
        r"AccountKey=(?P<secret>[A-Za-z0-9+/]{86}==)",
        4.0,
    ),
    form(
        "shopify-token",
        "a token of Shopify",
        Severity::High,
        &["shpat_", "shpca_", "shppa_", "shpss_"],
        r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}\b",
        3.0,
    ),
    form("docker-token", "a token of Docker Hub", Severity::High, &["dckr_pat_", "dckr_oat_"], r"\bdckr_[po]at_[A-Za-z0-9_-]{27,32}", 3.5),
    form("vault-token", "a token of Vault", Severity::High, &["hvs.", "hvb."], r"\bhv[sb]\.[A-Za-z0-9_-]{24,300}", 3.5),
    form(
        "age-key",
        "a secret key of age",
        Severity::Critical,
        &["AGE-SECRET-KEY-1"],
        r"\bAGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}\b",
        3.5,
    ),
    Rule {
        before: Some(r"(?:^|[^0-9A-Za-z_])[0-9]{8,10}$"),
        ..form("telegram-token", "a token of a bot of Telegram", Severity::High, &[":AA"], r":(?P<secret>AA[A-Za-z0-9_-]{33})\b", 3.5)
    },
    Rule {
        is_anywhere: true,
        ..form(
            "discord-token",
            "a token of a bot of Discord",
            Severity::High,
            &["discord"],
            r"\b[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40}\b",
            4.0,
        )
    },
    Rule {
        before: Some(r"(?:^\s*|:)$"),
        ..form(
            "npm-auth",
            "a token for a registry of npm",
            Severity::High,
            &["_auth", "_password"],
            r#"_(?:authToken|auth|password)\s*=\s*['"]?(?P<secret>[A-Za-z0-9+/=_-]{16,300})"#,
            3.3,
        )
    },
    form(
        "authorization",
        "what a request is authorized with",
        Severity::Medium,
        &["authorization"],
        r#"(?i)authorization['"]?\s*[:=,]\s*['"]?(?:bearer|basic|token)\s+(?P<secret>[A-Za-z0-9+/=._-]{20,1000})"#,
        3.8,
    ),
    // Many are examples, or for a test: told, and no reason to reject.
    form(
        "jwt",
        "a signed JSON Web Token",
        Severity::Low,
        &["eyJ"],
        r"\beyJ[A-Za-z0-9_-]{15,2000}\.eyJ[A-Za-z0-9_-]{15,4000}\.[A-Za-z0-9_-]{20,1000}",
        4.0,
    ),
    Rule {
        before: Some(r"(?i)\b[a-z][a-z0-9+.-]{1,30}$"),
        ..place(
            "url-password",
            "a password in an address",
            &["://"],
            r#"://[^\s:/@'"]{0,100}:(?P<secret>[^\s:/@'"]{6,200})@[A-Za-z0-9.\[-]"#,
        )
    },
    Rule {
        before: Some(r#"(?i)\b(?:server|host|data source|addr(?:ess)?|user(?: id|name)?|uid|database|initial catalog)\s*=[^'"\n]*;\s*$"#),
        ..place(
            "connection-password",
            "a password in a connection string",
            &["password", "pwd"],
            r#"(?i)(?:password|pwd)\s*=\s*(?P<secret>[^\s;'"]{6,})"#,
        )
    },
    place(
        "curl-password",
        "a password of a command",
        &["curl"],
        r#"\bcurl\b[^\n|;]*?\s(?:-u|--user)[ =]?\s*['"]?[^\s:'"]+:(?P<secret>[^\s'"]{6,})"#,
    ),
    Rule {
        before: Some(r"^\s*$"),
        ..place(
            "netrc-password",
            "a password in a netrc file",
            &["machine"],
            r"machine\s+\S+\s+login\s+\S+\s+password\s+(?P<secret>\S{6,})",
        )
    },
    name("option-secret", Some(r"(?i)--[a-z0-9-]*$"), named!(r#"(?:=|\s+)['"]?(?P<secret>[^\s'"`]{12,})"#)),
    name("assigned-secret", None, named!(assigned!())),
    // A variable of the environment.
    Rule { words: &["_KEY"], ..name("assigned-secret", Some(r"[A-Z0-9]$"), concat!(r"(?P<name>_KEY\b)", "(?i:", assigned!(), ")")) },
    name("assigned-secret", Some(r"(?i)#\s*define\s+\w*$"), named!(r#"\s+L?"(?P<secret>[^\s"]{12,})""#)),
    // Name and value, each with a name of its own, as in Kubernetes.
    name(
        "assigned-secret",
        Some(r#"(?i)\bname['"]?\s*:\s*['"]?[a-z0-9_.-]*$"#),
        named!(r#"['"]?\s*,?\s*['"]?\bvalue['"]?\s*:\s*['"]?(?P<secret>[^\s'"]{12,})"#),
    ),
    name("xml-secret", Some(r#"(?i)\b(?:key|name)\s*=\s*"[^"]*$"#), named!(r#"[^"\n]{0,20}"\s+value\s*=\s*"(?P<secret>[^\s"]{12,})""#)),
    name("xml-secret", Some(r"(?i)<[a-z0-9_.:-]*$"), named!(r"\s*>\s*(?P<secret>[^\s<>]{12,})\s*</")),
    name("query-secret", Some(r"(?i)[?&][a-z0-9_.-]*$"), named!(r"=(?P<secret>[A-Za-z0-9_%.~-]{16,})")),
    name("header-secret", Some(r#"(?i)['"][a-z0-9-]*$"#), named!(r#":\s{0,9}(?P<secret>[^\s'"`,]{16,})['"]"#)),
    unquoted(r"(?i)^\s*(?:(?:export|-)\s+)?[a-z0-9_.-]*$", named!(r#"[ \t]*[:=][ \t]*(?P<secret>[^\s'"`#]{16,}?);?(?:\s|$)"#)),
    unquoted(r"(?i)[\s;&|(][a-z0-9_.-]*$", named!(r#"=(?P<secret>[^\s'"`#]{16,}?);?(?:\s|$)"#)),
    unquoted(r"(?i)^\s*(?:env|arg|setenv)\s+[a-z0-9_]*$", named!(r#"\s+(?P<secret>[^\s'"`#]{16,}?);?(?:\s|$)"#)),
];

/// A rule with its patterns, compiled.
pub struct Compiled {
    pub rule: &'static Rule,
    pattern: Regex,
    before: Option<Regex>,
}

/// Where something was found.
pub struct Hit {
    /// All that the pattern fits.
    pub all: Range<usize>,
    pub secret: Range<usize>,
    /// The word of a name and what follows of it.
    pub name: Option<Range<usize>>,
}

impl Compiled {
    fn new(rule: &'static Rule) -> Self {
        let compile = |pattern| Regex::new(pattern).expect("the patterns are tested");
        Self { rule, pattern: compile(rule.pattern), before: rule.before.map(compile) }
    }

    /// Whether a line may begin so, ahead of what the pattern fits.
    pub fn may_follow(&self, line: &str) -> bool {
        self.before.as_ref().is_none_or(|before| before.is_match(line))
    }

    /// What there is at a place, or, of one that is looked for anywhere, from there on.
    fn find(&self, text: &str, from: usize) -> Option<Hit> {
        let anchored = if self.rule.is_anywhere { Anchored::No } else { Anchored::Yes };
        let input = Input::new(text).range(from..).anchored(anchored);
        self.pattern.search_half(&input)?; // most often there is nothing, and that is quickly told
        let mut groups: Captures = self.pattern.create_captures();
        self.pattern.search_captures(&input, &mut groups);
        let group = |name| groups.get_group_by_name(name).map(Range::from);
        let all = Range::from(groups.get_match()?.span());
        Some(Hit { secret: group("secret").unwrap_or_else(|| all.clone()), name: group("name"), all })
    }
}

/// All rules, compiled, and the words that they begin with, each with the rules that it is of.
struct Table {
    rules: Vec<Compiled>,
    words: AhoCorasick,
    rules_of: Vec<Vec<usize>>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut all: Vec<&str> = RULES.iter().flat_map(|rule| rule.words.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    let of = |word: &&str| RULES.iter().enumerate().filter(|(_, rule)| rule.words.contains(word)).map(|(at, _)| at).collect();
    let words = AhoCorasick::builder().ascii_case_insensitive(true).kind(Some(AhoCorasickKind::DFA)).build(&all);
    Table {
        rules: RULES.iter().map(Compiled::new).collect(),
        words: words.expect("the words are tested"),
        rules_of: all.iter().map(of).collect(),
    }
});

/// What may be a secret in a text, with its rule and the place of that among [`RULES`].
pub fn hits(text: &str) -> impl Iterator<Item = (usize, &'static Compiled, Hit)> {
    let table = &*TABLE;
    // Where each rule was tried last: two words of one may begin at the same place.
    let mut tried = vec![usize::MAX; RULES.len()];
    table.words.find_overlapping_iter(text).flat_map(move |word| {
        let mut hits = Vec::new();
        for at in table.rules_of[word.pattern().as_usize()].iter().copied() {
            let compiled = &table.rules[at];
            if compiled.rule.is_anywhere && tried[at] == usize::MAX {
                let mut from = 0;
                while let Some(hit) = compiled.find(text, from) {
                    from = hit.all.end.max(from + 1);
                    hits.push((at, compiled, hit));
                }
            } else if !compiled.rule.is_anywhere && tried[at] != word.start() {
                hits.extend(compiled.find(text, word.start()).map(|hit| (at, compiled, hit)));
            }
            tried[at] = word.start();
        }
        hits
    })
}

/// Compiles all of it, and has the tables of what most texts come to made ahead.
pub fn compile() {
    const SAMPLE: &str = "token = self.token\n  passwords: [a, b]\n\"secret\": \"of x\", pass pass(1) https://a.b/c\n\
                          author auth authorization authenticate bypass; api_key, access_key('a') -> Token { } tokens. credentials\n";
    for (_, compiled, hit) in hits(SAMPLE) {
        let _ = compiled.may_follow(&SAMPLE[..hit.all.start]);
    }
}
