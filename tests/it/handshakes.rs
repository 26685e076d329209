//! What does a connection that is lost while it is being set up say about a provider?
//!
//! As much as a refused one (row 1): nobody is there just now. So looks every provider that is being
//! restarted behind a balancer. It is no TLS failure (row 4), which rests the endpoint for a minute.

use crate::scene::trail;
use crate::stage::Stage;
use pointsman::standin::caller::Call;
use pointsman::standin::{Provider, Reply};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// How the other side leaves.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// With a FIN, once it has read something.
    Closes,
    /// With a RST, once it has read something.
    Resets,
    /// With a RST, at once.
    IsNotThere,
}

async fn listen(leaves: Leaves) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut first = [0; 64];
            match leaves {
                Leaves::Closes => {
                    // All of it, or the close would be a reset.
                    let reading = async { while socket.read(&mut first).await.is_ok_and(|n| n > 0) {} };
                    let _ = tokio::time::timeout(Duration::from_millis(50), reading).await;
                }
                Leaves::Resets => {
                    let _ = socket.read(&mut first).await;
                    socket.set_zero_linger().unwrap();
                }
                Leaves::IsNotThere => socket.set_zero_linger().unwrap(),
            }
        }
    });
    (port, serving)
}

#[tokio::test]
async fn a_connection_lost_in_its_handshake_is_a_refused_one_and_rests_nobody() {
    let second = Provider::start(Reply::says("two")).await.unwrap();
    for (scheme, http) in [("https", "auto"), ("https", "1"), ("https", "2")] {
        for leaves in [Leaves::Closes, Leaves::Resets, Leaves::IsNotThere] {
            let (port, serving) = listen(leaves).await;
            let stage = Stage::open(&format!(
                "providers:
  one: {{kind: openai, base_url: \"{scheme}://127.0.0.1:{port}/v1\", http: {http}}}
  two: {{kind: openai, base_url: \"{}\"}}
routes:
  chat: {{targets: [{{provider: one, model: m, priority: 1}}, {{provider: two, model: m, priority: 2}}]}}
",
                second.base_url()
            ))
            .await;
            for turn in 1..=3 {
                let answer = Call::chat("chat").send(stage.data).await.unwrap();
                assert_eq!(answer.text(), "two", "{scheme} {http} {leaves:?}: {}", answer.body_text());
                let way = trail(&answer);
                let expected = ["one/default:connect", "two/default:ok"];
                assert_eq!(way, expected, "{scheme} {http} {leaves:?}, request {turn}");
            }
            serving.abort();
        }
    }
}
