//! A wire that can lose answers: what a client sends arrives, and what the server says does not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Proxy {
    /// `host:port`, for clients.
    pub(crate) address: String,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    /// Who says this is not answered any more.
    word: OnceLock<&'static [u8]>,
    swallows: AtomicBool,
}

impl Proxy {
    /// In front of a server at `host:port`.
    pub(crate) async fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heard = Arc::new(Heard::default());
        let hears = heard.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server.clone(), hears.clone()));
            }
        });
        Self { address, heard }
    }

    /// From the first request on in which this stands, nothing the server says arrives.
    pub(crate) fn swallow_answers_to(&self, word: &'static str) {
        self.heard.word.set(word.as_bytes()).expect("one word a proxy");
    }
}

async fn carry(client: TcpStream, server: String, heard: Arc<Heard>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((mut hears, mut says), (mut answers, mut asks)) = (client.into_split(), server.into_split());
    let listening = heard.clone();
    tokio::spawn(async move {
        let mut bytes = vec![0; 64 * 1024];
        // Either side may be gone at any time: then the wire is cut.
        while let Ok(length @ 1..) = hears.read(&mut bytes).await {
            if let Some(word) = listening.word.get()
                && bytes[..length].windows(word.len()).any(|part| part == *word)
            {
                listening.swallows.store(true, Ordering::SeqCst);
            }
            if asks.write_all(&bytes[..length]).await.is_err() {
                return;
            }
        }
    });
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = answers.read(&mut bytes).await {
        if !heard.swallows.load(Ordering::SeqCst) && says.write_all(&bytes[..length]).await.is_err() {
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
