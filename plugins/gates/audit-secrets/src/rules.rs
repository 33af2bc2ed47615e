//! What is looked for. The forms are those that the issuers document.

use std::sync::{LazyLock, OnceLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::Regex;
use sandhog_guest::Severity;

/// One kind of secret.
pub struct Rule {
    pub id: &'static str,
    /// What it is, for a person.
    pub what: &'static str,
    pub severity: Severity,
    /// Words of which one is in every text that has such a secret, whatever their case: looked for first, since that is quick.
    pub words: &'static [&'static str],
    /// The part named `secret`, or all of it.
    pattern: &'static str,
    /// What it has at least, in bits a letter.
    pub entropy: f64,
    /// Known by the name of what it is assigned to, and by no form of its own.
    pub is_named: bool,
}

const fn form(
    id: &'static str,
    what: &'static str,
    severity: Severity,
    words: &'static [&'static str],
    pattern: &'static str,
    entropy: f64,
) -> Rule {
    Rule { id, what, severity, words, pattern, entropy, is_named: false }
}

/// What names of secrets have in them.
const NAMES: &[&str] = &[
    "secret",
    "token",
    "passw",
    "api_key",
    "apikey",
    "api-key",
    "api.key",
    "access_key",
    "access-key",
    "accesskey",
    "private_key",
    "credential",
];

/// All of them; of two that find the same place the first one counts.
pub const RULES: &[Rule] = &[
    form(
        "private-key",
        "a private key",
        Severity::Critical,
        &["PRIVATE KEY"],
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----[\s\S]{32,8000}?-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",
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
        &["hooks.slack.com"],
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
    form("telegram-token", "a token of a bot of Telegram", Severity::High, &[":AA"], r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}\b", 3.5),
    form(
        "discord-token",
        "a token of a bot of Discord",
        Severity::High,
        &["discord"],
        r"\b[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40}\b",
        4.0,
    ),
    form(
        "npm-auth",
        "a token for a registry of npm",
        Severity::High,
        &["_authToken"],
        r"_authToken\s*=\s*(?P<secret>[A-Za-z0-9+/=_-]{20,300})",
        3.5,
    ),
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
    form(
        "url-password",
        "a password in an address",
        Severity::High,
        &["://"],
        r#"\b[a-z][a-z0-9+.-]{1,30}://[^\s:/@'"]{1,100}:(?P<secret>[^\s:/@'"]{6,200})@[A-Za-z0-9.\[-]"#,
        2.5,
    ),
    Rule {
        id: "assigned-secret",
        what: "what looks like a secret is assigned to a name that says so",
        severity: Severity::Medium,
        words: NAMES,
        pattern: r#"(?i)(?P<name>[a-z0-9_.-]{0,40}(?:secret|token|passw(?:or)?d|api[_.-]?key|access[_.-]?key|private[_.-]?key|secret[_.-]?key|credential)[a-z0-9_.-]{0,20})['"]?\s*(?::\s*[a-z<>\[\]|. ]{1,40}\s*=|=>|:=|[:=])\s*['"`](?P<secret>[^\s'"`]{12,200})['"`]"#,
        entropy: 3.3,
        is_named: true,
    },
    Rule {
        id: "xml-secret",
        what: "what looks like a secret is the value of a key that says so",
        severity: Severity::Medium,
        words: NAMES,
        pattern: r#"(?i)\b(?:key|name)\s*=\s*"(?P<name>[^"\n]{0,40}(?:secret|token|passw(?:or)?d|api[_.-]?key|access[_.-]?key|private[_.-]?key|credential)[^"\n]{0,20})"\s+value\s*=\s*"(?P<secret>[^\s"]{12,200})""#,
        entropy: 3.3,
        is_named: true,
    },
    Rule {
        id: "unquoted-secret",
        what: "what looks like a secret is assigned to a name that says so",
        severity: Severity::Medium,
        words: NAMES,
        pattern: r#"(?im)^\s*(?:export\s+|-\s+)?(?P<name>[a-z0-9_.-]{0,40}(?:secret|token|passw(?:or)?d|api[_.-]?key|access[_.-]?key|private[_.-]?key|secret[_.-]?key|credential)[a-z0-9_.-]{0,20})\s*[:=]\s*(?P<secret>[^\s'"`#]{16,200}?)(?:;?\s*$|;?\s+(?:#|;|//|&&|\./|export\b))"#,
        entropy: 3.5,
        is_named: true,
    },
];

/// The words of all rules, and of which rule each is.
static WORDS: LazyLock<(AhoCorasick, Vec<usize>)> = LazyLock::new(|| {
    let words = || RULES.iter().enumerate().flat_map(|(at, rule)| rule.words.iter().map(move |word| (at, *word)));
    let automaton = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::DFA))
        .build(words().map(|(_, word)| word))
        .expect("the words are tested");
    (automaton, words().map(|(at, _)| at).collect())
});

static PATTERNS: LazyLock<Vec<OnceLock<Regex>>> = LazyLock::new(|| RULES.iter().map(|_| OnceLock::new()).collect());

/// The rules that may find something in a text: most texts have none of the words that a rule's secrets begin with.
pub fn candidates(text: &str) -> impl Iterator<Item = &'static Rule> {
    let (automaton, rules) = &*WORDS;
    let mut has = vec![false; RULES.len()];
    for found in automaton.find_overlapping_iter(text) {
        has[rules[found.pattern().as_usize()]] = true;
    }
    RULES.iter().zip(has).filter_map(|(rule, has)| has.then_some(rule))
}

/// The compiled pattern of a rule.
pub fn pattern(rule: &'static Rule) -> &'static Regex {
    let at = RULES.iter().position(|other| other.id == rule.id).expect("it is one of them");
    PATTERNS[at].get_or_init(|| Regex::new(rule.pattern).expect("the patterns are tested"))
}

/// Compiles all of it.
pub fn compile() {
    LazyLock::force(&WORDS);
    for rule in RULES {
        let _ = pattern(rule).is_match(""); // its tables, too
    }
}
