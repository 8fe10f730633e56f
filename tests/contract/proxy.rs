//! A wire that can lose answers: what a client sends arrives, and what the server says does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Proxy {
    /// `host:port`, for clients.
    pub(crate) address: String,
    swallows: Arc<AtomicBool>,
}

impl Proxy {
    /// In front of a server at `host:port`.
    pub(crate) async fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let swallows = Arc::new(AtomicBool::new(false));
        let swallowing = swallows.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server.clone(), swallowing.clone()));
            }
        });
        Self { address, swallows }
    }

    pub(crate) fn swallow_answers(&self, swallow: bool) {
        self.swallows.store(swallow, Ordering::SeqCst);
    }
}

async fn carry(client: TcpStream, server: String, swallows: Arc<AtomicBool>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((mut hears, mut says), (mut answers, mut asks)) = (client.into_split(), server.into_split());
    tokio::spawn(async move {
        // Either side may be gone at any time: then the wire is cut.
        let _ = tokio::io::copy(&mut hears, &mut asks).await;
    });
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = answers.read(&mut bytes).await {
        if !swallows.load(Ordering::SeqCst) && says.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

/// The first `host:port` of a URL.
pub(crate) fn address_in(url: &str) -> String {
    let authority = url.split("://").nth(1).unwrap().split('/').next().unwrap();
    let hosts = authority.rsplit('@').next().unwrap();
    hosts.split(',').next().unwrap().to_owned()
}
