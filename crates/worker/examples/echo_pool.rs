//! An echo server on a thread pool: each connection is a task. A task that panics costs its connection and nothing else, and
//! `submit` waits while too many wait for a thread. Here it serves ten clients of its own, and ends.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use threadwire_worker::{Async, Pool};

const CLIENTS: usize = 10;

fn echo(mut connection: TcpStream) -> io::Result<u64> {
    let mut sender = connection.try_clone()?;
    io::copy(&mut connection, &mut sender)
}

fn client(server: SocketAddr, number: usize) -> io::Result<String> {
    let mut connection = TcpStream::connect(server)?;
    write!(connection, "hello from {number}")?;
    connection.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = listener.local_addr()?;
    let clients: Vec<_> = (0..CLIENTS).map(|number| Async::run(move || Ok(client(server, number)))).collect();

    let pool = Pool::builder().name("echo").threads(4).build()?;
    let mut echoes = Vec::new();
    for _ in 0..CLIENTS {
        let (connection, _) = listener.accept()?;
        echoes.push(pool.submit(move || Ok(echo(connection)))?);
    }
    pool.shutdown()?; // does all that was submitted

    let mut bytes = 0;
    for echo in echoes {
        bytes += echo.get()??;
    }
    println!("echoed {bytes} bytes");
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(client.get()??, format!("hello from {number}"));
    }
    Ok(())
}
