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

/// A peer on loopback that does to whoever asks what its path says, for as long as anybody reads.
pub fn hostile_peer() -> u16 {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("an address").port();
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

/// Waits for a moment, as a slow peer does: for nobody to say anything.
pub fn drip() -> std::io::Result<()> {
    let (silent, _kept) = std::os::unix::net::UnixStream::pair()?;
    silent.set_read_timeout(Some(Duration::from_millis(20)))?;
    let _ = std::io::Read::read(&mut &silent, &mut [0]);
    Ok(())
}
