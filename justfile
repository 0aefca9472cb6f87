# One-line aliases only; the logic is in xtask.

# everything a change must pass
ci *args:
    cargo xtask ci {{args}}

# unit, black-box and documentation tests
test *args:
    cargo xtask test {{args}}

# the rules of STYLE.md that a text can be checked for
tidy:
    cargo xtask tidy

# decoders against hostile bytes
fuzz *args:
    cargo xtask fuzz {{args}}

# hoist beside raw programs and other servers
bench *args:
    cargo xtask bench {{args}}

# format everything
fmt:
    cargo fmt --all

# a server on this machine, with its data in ./hoist-data
serve *args:
    cargo run --release -- serve --data hoist-data {{args}}
