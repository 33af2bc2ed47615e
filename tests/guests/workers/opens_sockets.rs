//! Tries to reach the network: a port of this machine where somebody listens, one of its own, and names.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

#[derive(serde::Deserialize)]
struct Params {
    #[serde(default = "ssh")]
    port: u16,
}

fn ssh() -> u16 {
    22
}

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    let tcp = std::net::TcpStream::connect(("127.0.0.1", task.params.port)).map(drop).map_err(|error| error.to_string());
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").map(drop).map_err(|error| error.to_string());
    let name =
        std::net::ToSocketAddrs::to_socket_addrs("localhost:80").map(|addresses| addresses.count()).map_err(|error| error.to_string());
    Ok(vec![Artifact::text("network.txt", format!("{} {} {}", tcp.is_ok(), udp.is_ok(), name.is_ok()))])
}
