//! Finds keys, tokens and passwords that somebody left in a file. What is found is never shown: a finding names its kind, its
//! first letters and its length.
//!
//! Most kinds have a form of their own, given by who issues them, and are found by it. What has none (a password that is assigned
//! to a variable) is found by its name and by how random it is: its Shannon entropy, in bits a letter.

mod rules;

use rules::{RULES, Rule};
use sandhog_guest::{Failure, Finding, LineIndex, Severity, Subject, Verdict};

sandhog_guest::gate!(check);
sandhog_guest::initialize!(rules::compile);

/// A line that is longer is that of a bundle or of data: only what has a form of its own is looked for in it.
const LINE_BYTES_MAX: usize = 4_096;
/// A comment by which an author says that a line is meant to be as it is.
const ALLOWED: &str = "sandhog:allow-secret";
/// How many findings one file gives: the rest is the same again.
const FINDINGS_MAX: usize = 200;
/// How many secrets of one file are told apart at all.
const FOUND_MAX: usize = 2_000;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Params {
    /// Rules that are not looked for.
    disable: Vec<String>,
    /// How random a value must be that is known by its name alone, in bits a letter.
    entropy: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self { disable: Vec::new(), entropy: 3.3 }
    }
}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    let known = |name: &String| RULES.iter().any(|rule| rule.id == name);
    if let Some(unknown) = subject.params.disable.iter().find(|name| !known(name)) {
        let all: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
        return Err(sandhog_guest::invalid_input(format!("`disable`: there is no rule `{unknown}`; there are {}", all.join(", "))));
    }
    let mut findings = Vec::new();
    for file in &subject.files {
        let bytes = subject.read(&file.path)?;
        let text = decoded(&bytes);
        findings.extend(scan(&file.path, &text, &subject.params));
    }
    Ok(Verdict::from_findings(findings))
}

/// A file as text, whatever it is: what has a form of its own is found in data too.
fn decoded(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    let wide = |from: fn([u8; 2]) -> u16| {
        String::from_utf16_lossy(&bytes[2..].chunks_exact(2).map(|pair| from([pair[0], pair[1]])).collect::<Vec<_>>()).into()
    };
    match bytes {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes),
    }
}

/// Files of settings, where values stand without quotes.
fn is_settings(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let endings = [".env", ".yaml", ".yml", ".properties", ".ini", ".cfg", ".conf", ".toml", ".sh", ".netrc", ".npmrc", ".pypirc"];
    endings.iter().any(|ending| name.ends_with(ending)) || name.starts_with(".env") || name == "Dockerfile"
}

fn scan(path: &str, text: &str, params: &Params) -> Vec<Finding> {
    let lines = LineIndex::new(text);
    let mut found: Vec<(std::ops::Range<usize>, &Rule)> = Vec::new();
    for rule in rules::candidates(text).filter(|rule| !params.disable.iter().any(|name| name == rule.id)) {
        if rule.id == "unquoted-secret" && !is_settings(path) {
            continue;
        }
        for captures in rules::pattern(rule).captures_iter(text) {
            let Some(secret) = captures.name("secret").or_else(|| captures.get(0)) else { continue };
            let line = line_around(text, secret.range());
            if line.contains(ALLOWED) || (rule.is_named && line.len() > LINE_BYTES_MAX) {
                continue;
            }
            let threshold = if rule.is_named { params.entropy } else { rule.entropy };
            if captures.name("name").is_some_and(|name| names_no_secret(name.as_str()))
                || is_placeholder(secret.as_str(), rule)
                || entropy(secret.as_str()) < threshold
            {
                continue;
            }
            if !found.iter().any(|(range, _)| range.start < secret.end() && secret.start() < range.end) {
                found.push((secret.range(), rule));
            }
            if found.len() >= FOUND_MAX {
                break;
            }
        }
    }
    found.sort_by_key(|(range, _)| range.start);
    let is_cut = found.len() >= FOUND_MAX;
    let rest = if found.len() > FINDINGS_MAX { found.split_off(FINDINGS_MAX - 1) } else { Vec::new() };
    let mut findings: Vec<Finding> = found.into_iter().map(|(range, rule)| finding(path, text, &lines, range, rule)).collect();
    // One for all the others. It covers them, so that no report shows one.
    if let (Some((first, rule)), Some((last, _))) = (rest.first(), rest.last()) {
        let end = if is_cut { text.len() } else { rest.iter().map(|(range, _)| range.end).max().unwrap_or(last.end) };
        let start = if is_cut { 0 } else { first.start };
        let more = if is_cut {
            format!("more than {FOUND_MAX} secrets are in this file")
        } else {
            format!("{} more secrets are in this file", rest.len())
        };
        let told = finding(path, text, &lines, first.clone(), rule);
        findings.push(Finding { message: more, ..told }.over(path, &lines, start..end));
    }
    findings
}

fn line_around(text: &str, range: std::ops::Range<usize>) -> &str {
    let start = text[..range.start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[range.start..].find('\n').map_or(text.len(), |at| range.start + at);
    &text[start..end]
}

fn finding(path: &str, text: &str, lines: &LineIndex<'_>, range: std::ops::Range<usize>, rule: &Rule) -> Finding {
    let secret = &text[range.clone()];
    let message = format!("{}: {}", rule.what, masked(secret, rule));
    let severity = if rule.is_named { Severity::Medium } else { rule.severity };
    let suggestion = "revoke it where it was issued, then take it out: the history keeps it; a line that is meant to be so has a comment \
                      with sandhog:allow-secret";
    // The first line of a key in many: the rest of it is not for reports either.
    Finding::new(rule.id, severity, message).over(path, lines, range).suggest(suggestion)
}

/// What can be shown of a secret: how it begins where its form says so, and its length.
fn masked(secret: &str, rule: &Rule) -> String {
    let length = secret.chars().count();
    if rule.is_named || matches!(rule.id, "private-key" | "url-password" | "aws-secret-key" | "azure-storage-key") {
        return format!("a value of {length} characters");
    }
    let shown: String = secret.chars().take(4).collect();
    format!("{shown}… ({length} characters)")
}

/// The Shannon entropy of the letters of a text, in bits a letter.
fn entropy(text: &str) -> f64 {
    let mut counts = std::collections::BTreeMap::new();
    for letter in text.chars() {
        *counts.entry(letter).or_insert(0_u32) += 1;
    }
    let all = f64::from(counts.values().sum::<u32>());
    counts.values().map(|count| f64::from(*count) / all).map(|part| -part * part.log2()).sum()
}

/// Names that say `token` or `key` and mean something else: `api_key_header`, `token_url`, `password_field`.
fn names_no_secret(name: &str) -> bool {
    const ENDS: &[&str] =
        &["header", "name", "url", "uri", "path", "file", "field", "type", "class", "prefix", "length", "izer", "hash", "policy", "env"];
    let name = name.to_ascii_lowercase();
    ENDS.iter().any(|end| name.ends_with(end))
}

/// Values that stand where a secret will be, and are none: `changeme`, `${TOKEN}`, `xxxxxxxx`, `example`.
fn is_placeholder(secret: &str, rule: &Rule) -> bool {
    let lower = secret.to_ascii_lowercase();
    const WORDS: &[&str] = &[
        "example",
        "placeholder",
        "changeme",
        "change_me",
        "change-me",
        "your_",
        "your-",
        "redacted",
        "dummy",
        "sample",
        "xxxx",
        "0000000000",
        "1234567890123456",
    ];
    if WORDS.iter().any(|word| lower.contains(word)) {
        return true;
    }
    if !(rule.is_named || rule.id == "url-password") {
        return false;
    }
    // Code and templates, not values: `process.env.X`, `${X}`, `{{ x }}`, `getenv(...)`, `<secret>`, paths and plain words.
    const CODE: &[&str] = &[
        "${", "{{", "%(", "<", "env", "getenv", "process.", "config.", "secrets.", "vault", "test", "fake", "mock", "foo", "bar",
        "password", "secret", "none", "null", "true", "false", "://",
    ];
    if CODE.iter().any(|word| lower.contains(word)) || secret.contains([' ', '(', ')', '$', '[', ']', '{', '}']) {
        return true;
    }
    let has = |test: fn(char) -> bool| secret.chars().any(test);
    // What a person names things with: words joined by one kind of sign, and no digits.
    rule.is_named && !(has(|letter| letter.is_ascii_digit()) && has(|letter| letter.is_ascii_alphabetic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_of(text: &str) -> Vec<String> {
        scan("f", text, &Params::default()).into_iter().map(|finding| finding.rule).collect()
    }

    /// Made up here, of the form that each issuer gives; put together so that this file has none.
    fn made(before: &str, length: usize) -> String {
        let letters: Vec<char> = "aB3dE6gH9jK2mN5pQ8sT1vW4xY7zC0fG".chars().collect();
        before.to_owned() + &(0..length).map(|at| letters[(at * 7 + at / 32) % 32]).collect::<String>()
    }

    #[test]
    fn what_has_a_form_of_its_own_is_found_by_it() {
        for (secret, rule) in [
            (made("ghp_", 36), "github-token"),
            (made("github_pat_", 82), "github-token"),
            (made("glpat-", 20), "gitlab-token"),
            (format!("AKIA{}", "QZ7PLM3XK2WN5RTY"), "aws-access-key"),
            (made("sk_live_", 24), "stripe-key"),
            (made("npm_", 36), "npm-token"),
            (made("xoxb-", 40), "slack-token"),
            (made("sk-ant-api03-", 93), "anthropic-key"),
            (made("AIza", 35), "google-api-key"),
            (made("hf_", 34), "huggingface-token"),
            (format!("shpat_{}", "a1b2c3d4e5f60718293a4b5c6d7e8f90"), "shopify-token"),
            (made("dckr_pat_", 27), "docker-token"),
            (made("hvs.", 40), "vault-token"),
            (made("123456789:AA", 33), "telegram-token"),
            (format!("//registry.npmjs.org/:_authToken={}", made("", 36)), "npm-auth"),
            (format!("Authorization: Bearer {}", made("", 40)), "authorization"),
            (format!("{}.{}.{}", made("eyJ", 20), made("eyJ", 30), made("", 43)), "jwt"),
            (format!("-----BEGIN {} KEY-----\n{}\n-----END {} KEY-----", "RSA PRIVATE", made("", 64), "RSA PRIVATE"), "private-key"),
            (format!("postgres://app:{}@db.internal/x", made("", 12)), "url-password"),
        ] {
            let found = scan("f", &format!("a = \"{secret}\"\n"), &Params::default());
            assert_eq!(found.iter().map(|finding| finding.rule.as_str()).collect::<Vec<_>>(), [rule], "{secret}");
            let told = format!("{:?}", found[0].message);
            let tail: String = secret.chars().skip(8).collect();
            assert!(!told.contains(&tail), "the secret is told: {told}");
        }
    }

    #[test]
    fn a_name_alone_is_not_enough() {
        let secret = made("", 24);
        assert_eq!(rules_of(&format!("password = \"{secret}\"")), ["assigned-secret"]);
        assert_eq!(rules_of(&format!("API_KEY: '{secret}'")), ["assigned-secret"]);
        for after in ["", " # prod", "; export API_KEY", " && ./run", " ./run", " ; note"] {
            let found = scan("a.env", &format!("API_KEY={secret}{after}\n"), &Params::default());
            assert_eq!(found.len(), 1, "{after:?}");
        }
        for inside in ['&', ';', '='] {
            let found = scan("a.env", &format!("API_KEY={}{inside}{}\n", made("", 9), made("x", 12)), &Params::default());
            assert_eq!(found.len(), 1, "{inside:?}");
        }
        assert_eq!(rules_of(&format!("<add key=\"ApiKey\" value=\"{secret}\"/>")), ["xml-secret"]);
        for harmless in [
            "Authorization: Bearer YOUR_ACCESS_TOKEN_GOES_HERE",
            "password = \"changeme\"",
            "password = os.environ[\"DB_PASSWORD\"]",
            "api_key = \"${API_KEY}\"",
            "token = \"aaaaaaaaaaaaaaaaaaaaaaaa\"",
            "secret = \"the-name-of-a-secret\"",
            "password_hash_function = bcrypt",
            "sk-this-is-a-css-class-name-of-something-long",
            "https://user@example.com/path",
            "api_key_header = \"X-Api-Key-Authorization-2\"",
            "tokenizer = \"BertTokenizerFast-v2-base-uncased-Q8\"",
            "AKIAIOSFODNN7EXAMPLE",
        ] {
            assert_eq!(rules_of(harmless), Vec::<String>::new(), "{harmless}");
        }
        assert_eq!(rules_of(&format!("password = \"{secret}\" # sandhog:allow-secret")), Vec::<String>::new());
        assert_eq!(rules_of(&format!("password: str = \"{secret}\"")), ["assigned-secret"]);
        assert_eq!(rules_of(&format!("const apiKey: string = \"{secret}\";")), ["assigned-secret"]);
        let in_file = |path: &str, text: String| scan(path, &text, &Params::default()).len();
        for (path, line) in [(".env", "API_KEY="), ("a.yaml", "  api_key: "), ("x.sh", "export SECRET_KEY="), ("a.properties", "api.key=")]
        {
            assert_eq!(in_file(path, format!("{line}{secret}\n")), 1, "{path}");
            assert_eq!(in_file(path, format!("{line}$OTHER_VALUE_THAT_IS_LONG\n")), 0, "{path}");
        }
        assert_eq!(in_file("a.rs", format!("api_key = {secret}\n")), 0, "code is no file of settings");
        let wide: Vec<u8> =
            [0xff, 0xfe].into_iter().chain(format!("t = '{}'", made("ghp_", 36)).encode_utf16().flat_map(u16::to_le_bytes)).collect();
        assert_eq!(scan("f", &decoded(&wide), &Params::default()).len(), 1);
        let many: String = (0..FINDINGS_MAX + 50).map(|at| format!("t = '{}{at:03}'\n", made("ghp_", 33))).collect();
        let found = scan("f", &many, &Params::default());
        assert_eq!(found.len(), FINDINGS_MAX);
        let last = found.last().expect("a finding");
        assert!(last.message.starts_with("51 more"), "{}", last.message);
        let span = last.location.as_ref().and_then(|location| location.span).expect("a place");
        assert_eq!((span.start_line, span.end_line), (200, 250), "it covers the rest");
    }
}
