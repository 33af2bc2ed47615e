//! Finds keys, tokens and passwords that somebody left in a file. What is found is never shown: a finding names its kind, its
//! first letters and its length.
//!
//! Most kinds have a form of their own, given by who issues them, and are found by it. What has none (a password that is assigned
//! to a variable) is found by its name and by how random it is: its Shannon entropy, in bits a letter.

mod rules;

use rules::{Compiled, Hit, Kind, RULES, Rule};
use sandhog_guest::{Failure, Finding, LineIndex, Subject, Verdict};

sandhog_guest::gate!(check);
sandhog_guest::initialize!(rules::compile);

/// A line that is longer is that of a bundle or of data: only what has a form of its own is looked for in it.
const LINE_BYTES_MAX: usize = 4_096;
/// What has no form of its own and is longer is data.
const SECRET_BYTES_MAX: usize = 200;
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
        let all: std::collections::BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
        let all: Vec<&str> = all.into_iter().collect();
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
    const ENDINGS: &[&str] = &[
        ".env",
        ".yaml",
        ".yml",
        ".properties",
        ".ini",
        ".cfg",
        ".conf",
        ".toml",
        ".tfvars",
        ".sh",
        ".bash",
        ".zsh",
        ".netrc",
        ".npmrc",
        ".pypirc",
        ".dockerfile",
    ];
    ENDINGS.iter().any(|ending| name.ends_with(ending))
        || [".env", "Dockerfile", "Containerfile"].iter().any(|beginning| name.starts_with(beginning))
}

fn scan(path: &str, text: &str, params: &Params) -> Vec<Finding> {
    let lines = LineIndex::new(text);
    let is_settings = is_settings(path);
    let is_looked_for = |rule: &Rule| (is_settings || !rule.in_settings) && !params.disable.iter().any(|name| name == rule.id);
    let mut candidates: Vec<(usize, std::ops::Range<usize>, &Rule)> = rules::hits(text)
        .filter(|(_, compiled, hit)| is_looked_for(compiled.rule) && is_secret(text, compiled, hit, params))
        .map(|(at, compiled, hit)| (at, hit.secret, compiled.rule))
        .take(FOUND_MAX)
        .collect();
    candidates.sort_by_key(|(at, range, _)| (*at, range.start));
    let is_cut = candidates.len() >= FOUND_MAX;
    let mut found: Vec<(std::ops::Range<usize>, &Rule)> = Vec::new();
    for (_, range, rule) in candidates {
        if !found.iter().any(|(other, _)| other.start < range.end && range.start < other.end) {
            found.push((range, rule));
        }
    }
    found.sort_by_key(|(range, _)| range.start);
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

/// Whether what a pattern fits is a secret after all.
fn is_secret(text: &str, compiled: &Compiled, hit: &Hit, params: &Params) -> bool {
    let rule = compiled.rule;
    let secret = &text[hit.secret.clone()];
    let line = line_around(text, hit.secret.clone());
    let is_too_long = match rule.kind {
        Kind::Form => false,
        Kind::Place => secret.len() > SECRET_BYTES_MAX,
        Kind::Name => secret.len() > SECRET_BYTES_MAX || line.len() > LINE_BYTES_MAX,
    };
    if line.contains(ALLOWED) || is_too_long {
        return false;
    }
    let before = before(text, hit.all.start);
    if let Some(part) = &hit.name {
        let length = before.len() - before.trim_end_matches(is_of_name).len();
        if names_no_secret(&text[part.start - length..part.end]) {
            return false;
        }
    }
    let is_quoted = text[..hit.secret.start].ends_with(['"', '\'', '`']);
    let threshold = if rule.kind == Kind::Name { params.entropy } else { rule.entropy };
    compiled.may_follow(before) && !is_placeholder(secret, rule, is_quoted) && entropy(secret) >= threshold
}

/// The line of a place; of one that is too long, what is near.
fn line_around(text: &str, range: std::ops::Range<usize>) -> &str {
    let from = text.floor_char_boundary(range.start.saturating_sub(LINE_BYTES_MAX + 1));
    let to = text.ceil_char_boundary((range.start + LINE_BYTES_MAX + 1).min(text.len()));
    let start = text[from..range.start].rfind('\n').map_or(from, |at| from + at + 1);
    let end = text[range.start..to].find('\n').map_or(to, |at| range.start + at);
    &text[start..end]
}

/// What its line is up to a place; of a long one, the end of it.
fn before(text: &str, at: usize) -> &str {
    let from = text.ceil_char_boundary(at.saturating_sub(200));
    let start = text[from..at].rfind('\n').map_or(from, |start| from + start + 1);
    &text[start..at]
}

/// Signs of which names of variables, options and settings are.
fn is_of_name(sign: char) -> bool {
    sign.is_ascii_alphanumeric() || matches!(sign, '_' | '-' | '.')
}

fn finding(path: &str, text: &str, lines: &LineIndex<'_>, range: std::ops::Range<usize>, rule: &Rule) -> Finding {
    let secret = &text[range.clone()];
    let message = format!("{}: {}", rule.what, masked(secret, rule));
    let suggestion = "revoke it where it was issued, then take it out: the history keeps it; a line that is meant to be so has a comment \
                      with sandhog:allow-secret";
    // The first line of a key in many: the rest of it is not for reports either.
    Finding::new(rule.id, rule.severity, message).over(path, lines, range).suggest(suggestion)
}

/// What can be shown of a secret: how it begins where its form says so, and its length.
fn masked(secret: &str, rule: &Rule) -> String {
    let length = secret.chars().count();
    if rule.kind != Kind::Form || matches!(rule.id, "private-key" | "aws-secret-key" | "azure-storage-key") {
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

/// Names that say `token` or `key` and mean something else: `api_key_header`, `token_url`, `nextToken`, `bypass`.
fn names_no_secret(name: &str) -> bool {
    const ENDS: &[&str] = &[
        "header", "name", "url", "uri", "path", "file", "field", "type", "class", "prefix", "length", "izer", "hash", "policy", "env",
        "arn", "format", "pattern", "regex", "regexp", "_id", "-id", ".id", "keyid", "tokenid", "secretid", "label", "title", "message",
        "version",
    ];
    // What a service tells its callers apart by, and where in a list they are.
    const TOKENS: &[&str] =
        &["next", "request", "client", "change", "purchase", "page", "continuation", "sync", "idempotency", "sequence", "input", "output"];
    // Short words, which others end in: of a name they are the last part, or all of it.
    const SHORT: &[&str] = &["auth", "pass", "pwd"];
    const MADE_UP: &[&str] = &["test", "fake", "mock", "dummy", "example", "sample"];
    let lower = name.to_ascii_lowercase();
    let is_part = |word: &&str| {
        let Some(before) = lower.strip_suffix(*word) else { return false };
        let before = &name[..before.len()];
        let is_capital = name[before.len()..].starts_with(|letter: char| letter.is_ascii_uppercase());
        !(before.is_empty()
            || before.ends_with(['_', '-', '.'])
            || (is_capital && before.ends_with(|letter: char| letter.is_ascii_lowercase())))
    };
    let token = lower.strip_suffix("token").map(|of| of.trim_end_matches(['_', '-', '.']));
    // Keys by which something is found, or which everyone may know.
    const OPEN: &[&str] = &["public", "cache", "primary", "foreign", "sort", "partition", "storage", "lookup", "group", "hot", "short"];
    let is_open = |of: &str| of.contains(|letter: char| letter.is_ascii_lowercase()) || OPEN.iter().any(|word| lower.contains(word));
    ENDS.iter().any(|end| lower.ends_with(end))
        || (name.ends_with("_KEY") && is_open(name.rsplit('.').next().unwrap_or(name)))
        || MADE_UP.iter().any(|word| lower.contains(word))
        || SHORT.iter().any(is_part)
        || token.is_some_and(|of| TOKENS.iter().any(|word| of.ends_with(word)))
}

/// Values that stand where a secret will be, and are none: `changeme`, `${TOKEN}`, `xxxxxxxx`, `example`.
fn is_placeholder(secret: &str, rule: &Rule, is_quoted: bool) -> bool {
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
        "00000000",
        "1234567890123456",
    ];
    if WORDS.iter().any(|word| lower.contains(word)) {
        return true;
    }
    if rule.kind == Kind::Form {
        // One of a documentation is cut short by points, or is no more than a word.
        let of_base64 = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '/');
        let is_cut = || secret.lines().any(|line| !line.contains(": ") && line.contains(['.', '…', '*', '<']));
        return rule.id == "private-key" && (is_cut() || !secret.split(|letter| !of_base64(letter)).any(|run| run.len() >= 24));
    }
    // Code and templates, not values: `process.env.X`, `${X}`, `{{ x }}`, `getenv(...)`, `<secret>`, paths and plain words.
    const CODE: &[&str] = &[
        "${", "$(", "{{", "#{", "<%", "%(", "env", "getenv", "process.", "config.", "secrets.", "vault", "test", "fake", "mock", "foo",
        "bar", "password", "secret", "none", "null", "true", "false", "://", "::", "...",
    ];
    let is_around = |before: &str, after: &str| secret.starts_with(before) && secret.ends_with(after);
    if CODE.iter().any(|word| lower.contains(word))
        || secret.starts_with('>')
        || ["/", "./", "../", "~/", "arn:", "$", "%"].iter().any(|start| lower.starts_with(start))
        || [("{", "}"), ("[", "]"), ("<", ">")].iter().any(|(before, after)| is_around(before, after))
        || is_call(secret)
        || (!is_quoted && secret.contains(['(', ')', '$', '[', ']', '{', '}', '<']))
    {
        return true;
    }
    if rule.kind == Kind::Place {
        return false;
    }
    let has = |test: fn(char) -> bool| secret.chars().any(test);
    !(has(|letter| letter.is_ascii_digit()) && has(|letter| letter.is_ascii_alphabetic()))
        || is_uuid(secret)
        || is_date(secret)
        || is_of_words(secret)
}

/// What a person names things with: `0002_alter_user_name`, `s3-express-session`.
fn is_of_words(text: &str) -> bool {
    let is_word = |part: &str| {
        if part.len() <= 3 && part.chars().all(|letter| letter.is_ascii_alphanumeric()) {
            return true;
        }
        let word = part.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
        word.len() <= if word.len() < part.len() { 2 } else { 4 } && word.chars().all(|letter| letter.is_ascii_digit())
    };
    let separators = ['_', '-', '.', '/'];
    text.contains(separators) && text.split(separators).all(is_word)
}

/// `name(…)`.
fn is_call(text: &str) -> bool {
    let name = text.trim_start_matches(is_of_name);
    name.len() < text.len() && name.starts_with('(') && name.ends_with(')')
}

/// The form of an identifier that is told to everyone, RFC 9562.
fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    text.len() == 36 && lengths.eq([8, 4, 4, 4, 12]) && text.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-')
}

/// `2026-01-31T00:00:00Z`.
fn is_date(text: &str) -> bool {
    let form = text.bytes().map(|letter| if letter.is_ascii_digit() { b'0' } else { letter });
    form.take(10).eq(*b"0000-00-00")
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
            (format!("redis://:{}@cache.internal:6379/0", made("", 12)), "url-password"),
            (format!("Server=db;User Id=app;Password={};Encrypt=true", made("", 12)), "connection-password"),
            (format!("curl -sS -u app:{} https://x.invalid", made("", 12)), "curl-password"),
            (format!("\nmachine x.invalid login app password {}", made("", 12)), "netrc-password"),
            (format!("PuTTY-User-Key-File-3: ssh-ed25519\nComment: x\nPrivate-Lines: 1\n{}\nPrivate-MAC: 00", made("", 48)), "private-key"),
        ] {
            let found = scan("f", &format!("a = \"{secret}\"\n"), &Params::default());
            assert_eq!(found.iter().map(|finding| finding.rule.as_str()).collect::<Vec<_>>(), [rule], "{secret}");
            let told = format!("{:?}", found[0].message);
            let tail: String = secret.chars().skip(8).collect();
            assert!(!told.contains(&tail), "the secret is told: {told}");
        }
    }

    #[test]
    fn a_secret_is_found_wherever_its_name_stands() {
        let secret = made("", 24);
        for (before, after, rule) in [
            ("cfg['api_key'] = '", "'", "assigned-secret"),
            ("api_key = b'", "'", "assigned-secret"),
            ("api_key = (r\"", "\")", "assigned-secret"),
            ("var apiKey string = \"", "\"", "assigned-secret"),
            ("let api_key: &'static str = \"", "\";", "assigned-secret"),
            ("private static final String API_KEY = \"", "\";", "assigned-secret"),
            ("#define API_KEY \"", "\"", "assigned-secret"),
            ("define('API_KEY', '", "');", "assigned-secret"),
            ("key = process.env.API_KEY || \"", "\"", "assigned-secret"),
            ("key = ENV['API_KEY'] || '", "'", "assigned-secret"),
            ("key = os.environ.get(\"API_KEY\", \"", "\")", "assigned-secret"),
            ("key = os.environ.get(\"API_KEY\") or \"", "\"", "assigned-secret"),
            ("{\"name\": \"API_KEY\", \"value\": \"", "\"}", "assigned-secret"),
            ("  - name: API_KEY\n    value: ", "\n", "assigned-secret"),
            ("dbPwd = \"", "\"", "assigned-secret"),
            ("DB_PASS: '", "'", "assigned-secret"),
            ("auth = '", "'", "assigned-secret"),
            ("x = '{\"api_key\": \"", "\"}'", "assigned-secret"),
            ("\"source\": [\"api_key = \\\"", "\\\"\\n\"]", "assigned-secret"),
            ("'{\\\"api_key\\\":\\\"", "\\\"}'", "assigned-secret"),
            ("STRIPE_KEY = \"", "\"", "assigned-secret"),
            ("passphrase: \"a$", "(b\"", "assigned-secret"),
            ("<password>", "</password>", "xml-secret"),
            ("run --api-key ", " now", "option-secret"),
            ("run --token='", "'", "option-secret"),
            ("https://x.invalid/?a=1&api_key=", "", "query-secret"),
            ("curl -H 'X-API-Key: ", "'", "header-secret"),
        ] {
            assert_eq!(rules_of(&format!("{before}{secret}{after}")), [rule], "{before}");
        }
        let in_file = |path: &str, line: &str| {
            let found = scan(path, &format!("{line}{secret} run\n"), &Params::default());
            found.into_iter().map(|finding| finding.rule).collect::<Vec<_>>()
        };
        for (path, line) in [
            ("Dockerfile", "ENV API_KEY "),
            ("Dockerfile", "ENV A=1 API_KEY="),
            ("web.Dockerfile", "ARG API_KEY="),
            ("deploy.sh", "PGPASSWORD="),
            ("ci.yaml", "  - run: docker run -e API_KEY="),
        ] {
            let path = path.replace("web.Dockerfile", "web.dockerfile");
            assert_eq!(in_file(&path, line), ["unquoted-secret"], "{path} {line}");
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
            "nextToken = \"ab12CD34ef56GH78ij90\"",
            "\"ClientRequestToken\": \"ab12CD34ef56GH78ij90\"",
            "token = '0f8fad5b-d9cb-469f-a165-70867728950e'",
            "token_expires: '2026-01-31T10:20:30Z'",
            "\"SecretId\": \"arn:aws:secretsmanager:us-west-2:123456789012:secret:My-a1b2c3\"",
            "token = \"AQoDYXdzEJr1K2o9...\"",
            "(\"auth\", \"0002_alter_permission_name_max_length\")",
            "token = 's3-express-session-auth'",
            "max_token = \"gpt-4o-mini-2024-07-18\"",
            "password_regex = r\"^[a-z0-9]{8,16}x$\"",
            "CSRF_TOKEN_ID = \"csrfmiddlewaretoken2\"",
            "'?tokena=A&amp;tokenb=B\">package_name-0.1.2.tar.gz'",
            "x = 'ghp_PersonalAccessToken01245678900000000'",
            "-----BEGIN RSA PRIVATE KEY----- MIIEpQIBAAKCAQEAueRbXYjtVLTxfGGabdBSQqZQLYQYDcSoKf5xiieR. -----END RSA PRIVATE KEY-----",
            "sign('test_secret') => 'f7f9bd47fb98733ac5796fdc1fdb9ba2'",
            "compass = \"ab12CD34ef56GH78ij90\"",
            "author = \"ab12CD34ef56GH78ij90\"",
            "token = \"{first_token_of_2}\"",
            "token = \"make_a_token2(of_it)\"",
            "-----BEGIN PRIVATE KEY-----<a very long private key string of yours>-----END PRIVATE KEY-----",
            "run --token $TOKEN_OF_MINE_2",
            "run --token-file tokens/of/all/2a",
            "Password=changeme;Server=x",
            "curl -u \"$USER:$PASSWORD\" x",
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
