//! What becomes of a large upload that the provider does not want?

use crate::stage::Stage;
use pointsman::standin::caller::Call;
use pointsman::standin::{Provider, Reply};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Well below what giving up on a stuck write takes.
const SOON: Duration = Duration::from_secs(3);

fn call(bytes: usize) -> Call {
    let message = json!({"role": "user", "content": "x".repeat(bytes)});
    Call::json("/v1/chat/completions", &json!({"model": "chat", "messages": [message]}))
}

async fn stage(base: &str, http: u8) -> Stage {
    Stage::open(&format!(
        "providers:
  p: {{kind: openai, base_url: \"{base}\", http: {http}}}
routes:
  chat: {{targets: [{{provider: p, model: m}}]}}
"
    ))
    .await
}

/// Row 30: the provider answers before it has read the upload, and never reads it.
#[tokio::test]
async fn an_early_refusal_ends_the_upload_at_once() {
    for (status, told) in [(413, 413), (401, 502), (400, 400)] {
        for http in [1, 2] {
            let provider = Provider::start(Reply::early(status)).await.unwrap();
            let stage = stage(&provider.base_url(), http).await;
            let answer = call(20_000_000).send(stage.data).await.unwrap();
            assert_eq!(answer.status, told, "HTTP/{http} {status}: {}", answer.body_text());
            assert!(answer.took < SOON, "HTTP/{http} {status}: took {:?}", answer.took);
            assert_eq!(provider.count(), 1, "HTTP/{http} {status}");
        }
    }
}

/// The provider would read another request as the rest of the first one's body.
#[tokio::test]
async fn a_connection_whose_upload_was_cut_short_carries_no_other_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let serving = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            // The head, and no more of the body than comes with it.
            let mut first = [0; 1024];
            assert!(socket.read(&mut first).await.unwrap() > 0);
            socket.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            open.push(socket);
        }
    });
    let stage = stage(&base, 1).await;
    for turn in 1..=3 {
        let answer = call(10_000_000).limit(SOON).send(stage.data).await.unwrap();
        assert_eq!(answer.status, 413);
        assert_eq!(connections.load(Ordering::SeqCst), turn);
    }
    serving.abort();
}
