//! turmoil's streams behind the seams of the node and of the client.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use futures::future::BoxFuture;
use rookery_client::{BoxedStream, Connector};
use rookery_raft::{BoxStream, Listener, Network};
use turmoil::net::{TcpListener, TcpStream};

/// The network of the host that uses it. Names are host names, ports as configured.
#[derive(Clone, Copy)]
pub struct SimNetwork;

struct SimListener(TcpListener);

fn split(addr: &str) -> io::Result<(String, u16)> {
    let parts = addr.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    parts.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{addr}: not host:port")))
}

impl Network for SimNetwork {
    fn dial(&self, addr: &str) -> BoxFuture<'_, io::Result<BoxStream>> {
        let addr = split(addr);
        Box::pin(async move { Ok(Box::new(TcpStream::connect(addr?).await?) as BoxStream) })
    }

    fn listen(&self, addr: &str) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        let addr = split(addr);
        Box::pin(async move {
            // A simulated host has one address, and turmoil binds to it only as "any".
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, addr?.1)).await?;
            Ok(Box::new(SimListener(listener)) as Box<dyn Listener>)
        })
    }
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(stream) as BoxStream, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Connector for SimNetwork {
    fn connect(&self, addr: &str) -> rookery_client::BoxFuture<'static, io::Result<BoxedStream>> {
        let addr = split(addr);
        Box::pin(async move { Ok(Box::new(TcpStream::connect(addr?).await?) as BoxedStream) })
    }
}
