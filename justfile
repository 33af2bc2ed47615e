# Each recipe is the command that CI, or a person, runs.

# The main job over this repository's documentation
demo:
    scripts/demo

# Everything that must pass
check:
    scripts/test

# Plugins into dist/plugins
plugins:
    scripts/plugins

# The standard gates, compiled ahead, into `gates` beside the binary
gates:
    scripts/gates

# A worker and a gate in every language, from empty folders, into dist/languages
languages *names:
    scripts/languages {{names}}

# Guests that attack the sandbox into dist/guests
guests:
    scripts/guests

# Every attack on a server of its own, watched from outside: what each took, and what came of it
hostile: guests plugins
    cargo test --release --locked --test hostile -- --nocapture --test-threads 1

# Readers of foreign bytes under libFuzzer: so many seconds for each target, or for those that are named
fuzz seconds *targets: guests
    scripts/fuzz {{seconds}} {{targets}}

# A server under mixed good and hostile work, killed, replaced, without room: a part of so many minutes
soak *arguments: guests plugins
    cargo build --release --locked
    scripts/soak {{arguments}}

# Everything that is measured, into one report: docs/benchmarks (needs `just plugins guests gates languages`)
bench *arguments: plugins guests
    cargo build --release --locked
    scripts/report {{arguments}}

# The server with clients that others wrote: MCP, WebSocket, a fuzzer, a browser
clients *names:
    scripts/clients {{names}}

# The server's status query under wrk, against a route that reads nothing
bench-serve *seconds:
    scripts/bench-serve {{seconds}}

# What a worker costs in each language, after scripts/languages
bench-languages:
    scripts/bench-languages

# Licences, bans and sources (needs cargo-deny)
deny:
    cargo deny check bans licenses sources

# Format everything
format:
    cargo fmt
    cargo fmt --all --manifest-path plugins/Cargo.toml
    cargo fmt --all --manifest-path plugins/gates/Cargo.toml
    cargo fmt --all --manifest-path tests/guests/Cargo.toml
    cargo fmt --all --manifest-path tests/fuzz/Cargo.toml

# Gates against the native tools that have the same engine: findings, and time
against-native *folders:
    scripts/against-native {{folders}}
