// The standard library only: a blocking listener, a thread for each connection, keep-alive.
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

fn serve(stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let body = format!("pid={}\n", std::process::id());
    let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (mut line, mut close) = (String::new(), false);
    while reader.read_line(&mut line)? > 0 {
        close |= line.to_lowercase().starts_with("connection: close");
        if line == "\r\n" {
            writer.write_all(reply.as_bytes())?;
            if close {
                break;
            }
        }
        line.clear();
    }
    Ok(())
}

fn main() {
    let port = std::env::args().nth(1).expect("a port");
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).expect("cannot bind");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || serve(stream));
    }
}
