//! Guests as components, and the peer that is hostile to them.

use std::path::Path;
use std::time::Duration;

/// A guest's component: built from Rust by `scripts/guests`, or made here from its text.
pub fn component(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = root.join(format!("tests/guests/{name}.wat"));
    if !text.exists() {
        let built = root.join(format!("dist/guests/{name}.wasm"));
        return std::fs::read(&built).unwrap_or_else(|error| panic!("{}: {error}: run scripts/guests first", built.display()));
    }
    let bytes = wat::parse_file(&text).expect("a guest in text form parses");
    if wasmparser::Parser::is_component(&bytes) {
        return bytes;
    }
    let mut module = bytes;
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_dir(root.join("wit")).expect("the contract parses");
    let world = resolve.select_world(&[package], Some("worker-plugin")).expect("the world of workers");
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8).expect("embeds");
    wit_component::ComponentEncoder::default().module(&module).expect("a module").validate(false).encode().expect("a component")
}

/// Where the peer is asked for TLS, at the same port, and what it says there: nothing, a drop now and then, a handshake without end, and what is none.
pub const TLS_PEERS: [&str; 4] = ["127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6"];

/// A peer on loopback that does to whoever asks what its path says, for as long as anybody reads.
pub fn hostile_peer() -> u16 {
    use std::io::{Read as _, Write as _};
    // A port that is free at each of its addresses.
    let (listener, shaking) = loop {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener.local_addr().expect("an address").port();
        let shaking: std::io::Result<Vec<_>> = TLS_PEERS.iter().map(|address| std::net::TcpListener::bind((*address, port))).collect();
        if let Ok(shaking) = shaking {
            break (listener, shaking);
        }
    };
    let port = listener.local_addr().expect("an address").port();
    for (listener, address) in shaking.into_iter().zip(TLS_PEERS) {
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || shake(stream, address));
            }
        });
    }
    // Ends with the process: it only waits.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                let length = stream.read(&mut bytes).unwrap_or(0);
                let asked = String::from_utf8_lossy(&bytes[..length]).into_owned();
                let path = asked.split(' ').nth(1).unwrap_or_default();
                let mut say = |text: &[u8]| stream.write_all(text);
                let _: std::io::Result<()> = match path {
                    "/endless" => say(b"HTTP/1.1 200 OK\r\n\r\n").and_then(|()| {
                        loop {
                            say(&[b'x'; 65_536])?
                        }
                    }),
                    "/drip" => say(b"HTTP/1.1 200 OK\r\n\r\n").and_then(|()| {
                        loop {
                            say(b"x").and_then(|()| drip())?
                        }
                    }),
                    "/headers" => say(b"HTTP/1.1 200 OK\r\n").and_then(|()| {
                        loop {
                            say(b"x-header: of many\r\n")?
                        }
                    }),
                    "/header" => say(b"HTTP/1.1 200 OK\r\nx-header: ").and_then(|()| {
                        loop {
                            say(&[b'x'; 65_536])?
                        }
                    }),
                    "/garbage" => say(b"\x00\xff\x00\xff this is no HTTP\r\n\r\n"),
                    "/length" => say(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\nx"),
                    "/short" => say(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nx"),
                    "/chunks" => say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nx"),
                    "/interim" => loop {
                        if say(b"HTTP/1.1 100 Continue\r\n\r\n").is_err() {
                            break Ok(());
                        }
                    },
                    _ => Ok(()),
                };
            });
        }
    });
    port
}

/// The peer's side of a handshake of TLS (RFC 8446), which comes to nothing.
fn shake(mut stream: std::net::TcpStream, address: &str) {
    use std::io::{Read as _, Write as _};
    // The header of a record of a handshake with 16 KiB, and that of a `ServerHello` with as much as can be said.
    const RECORD: [u8; 5] = [22, 3, 3, 0x40, 0];
    const HELLO: [u8; 4] = [2, 0xff, 0xff, 0xff];
    let _ = stream.read(&mut [0; 4096]);
    let mut say = |bytes: &[u8]| stream.write_all(bytes);
    let _: std::io::Result<()> = match address {
        "127.0.0.4" => say(&RECORD).and_then(|()| {
            loop {
                say(&[2]).and_then(|()| drip())?
            }
        }),
        "127.0.0.5" => say(&RECORD).and_then(|()| say(&HELLO)).and_then(|()| say(&[0; 0x4000 - HELLO.len()])).and_then(|()| {
            loop {
                say(&RECORD).and_then(|()| say(&[0; 0x4000]))?
            }
        }),
        "127.0.0.6" => say(b"HTTP/1.1 200 OK\r\n\r\nin the clear"),
        _ => stream.read_to_end(&mut Vec::new()).map(drop), // until they go
    };
}

/// Waits for a moment, as a slow peer does: for nobody to say anything.
pub fn drip() -> std::io::Result<()> {
    let (silent, _kept) = std::os::unix::net::UnixStream::pair()?;
    silent.set_read_timeout(Some(Duration::from_millis(20)))?;
    let _ = std::io::Read::read(&mut &silent, &mut [0]);
    Ok(())
}
