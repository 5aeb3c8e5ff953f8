//! An echo server on a bounded queue, from which workers take connections: while all are busy and the queue is full, no
//! further connection is accepted. Here it serves ten clients of its own, and ends.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use threadwire_worker::{Async, Queue, Worker};

const WORKERS: usize = 4;
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

    let queue = Queue::<TcpStream>::new(WORKERS);
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let queue = queue.clone();
            Worker::spawn(move || {
                while let Some(connection) = queue.get()? {
                    if let Err(error) = echo(connection.into_inner()) {
                        eprintln!("a connection broke: {error}");
                    }
                }
                Ok(())
            })
        })
        .collect();
    for _ in 0..CLIENTS {
        let (connection, _) = listener.accept()?;
        queue.put(connection)?;
    }
    queue.close();
    for worker in workers {
        worker.join()?;
    }

    for (number, client) in clients.iter().enumerate() {
        let answer = client.get()??;
        println!("{answer}");
        assert_eq!(answer, format!("hello from {number}"));
    }
    Ok(())
}
