# Every verb of this repository. Each is one or two plain cargo commands, which CI calls as well.

# Lists the verbs.
default:
    @just --list

# Format and lints.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# All tests, on a real control plane.
test:
    cargo test

# The stories whose name has NAME in it, such as `just story create`.
story NAME:
    cargo test --package message-contact-operator --test it -- {{NAME}}

# Writes the generated files anew: crds/, admission/, and what docs/ and the chart have of the code.
generate:
    MCO_REWRITE=1 cargo test --package message-contact-operator --lib -- cli::crds
    MCO_REWRITE=1 cargo test --package message-contact-operator --test it -- generated reference

# Calls and writes of each scenario, compared with the accepted ones.
bench:
    cargo counts

# Licences, bans and sources of the dependencies.
deny:
    cargo deny check bans licenses sources

# The main job, shown on real parts; `just demo --once` ends by itself.
demo *ARGS:
    cargo demo -- {{ARGS}}
