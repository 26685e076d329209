//! The caller of the public bar (its page, section 1), and nothing kinder.
//!
//! It reads lines that start with `data:` up to `[DONE]` or the end of the body, skips bad JSON,
//! takes an object with a non-empty `error` for a failure, keeps the last model and usage, and
//! compares the text with the sixty words after folding white space. A status other than 200 and a
//! cut body are clean errors. It closes its connection right after `[DONE]`, and does not ask for a
//! finish reason.

use std::net::SocketAddr;
use std::time::Duration;

use pointsman::standin::SIXTY_WORDS;
use pointsman::standin::caller::Call;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::row::Ending;

/// How long over its limit a request may take before it hangs.
const GRACE: Duration = Duration::from_secs(1);

/// One request as the caller saw it.
#[derive(Debug)]
pub struct Heard {
    pub ending: Ending,
    pub model: Option<String>,
    pub usage: Option<Value>,
    /// The error body of a refusal, or the error object in the stream.
    pub error: Option<Value>,
    pub ttft: Option<Duration>,
    pub total: Duration,
}

/// Streams a completion of `model` from the server; `limit` is the scenario's longest time.
pub async fn listen(server: SocketAddr, model: &str, limit: Duration) -> Heard {
    let began = Instant::now();
    let mut heard =
        Heard { ending: Ending::Hang, model: None, usage: None, error: None, ttft: None, total: limit };
    let reading = read(server, model, &mut heard);
    // A caller that gave up is no clean error: the bar calls that a hang.
    if let Ok(ending) = timeout(limit + GRACE, reading).await {
        heard.ending = ending;
    }
    heard.total = began.elapsed();
    heard
}

async fn read(server: SocketAddr, model: &str, heard: &mut Heard) -> Ending {
    let call = Call::chat_stream(model).limit(Duration::from_secs(3600));
    let mut talk = match call.begin(server).await {
        Ok(talk) => talk,
        Err(fault) => return Ending::CleanError(fault.to_string()),
    };
    match talk.head().await {
        Ok(200) => {}
        Ok(status) => {
            let (answer, _) = talk.finish(&call).await;
            heard.error = answer.error();
            return Ending::CleanError(format!("{status} {}", answer.error_code()));
        }
        Err(fault) => return Ending::CleanError(fault.to_string()),
    }
    let mut text = String::new();
    loop {
        let events = match talk.next().await {
            Ok(Some(events)) => events,
            Ok(None) => return whole(&text),
            Err(fault) => return Ending::CleanError(format!("cut: {fault}")),
        };
        for event in events {
            // Dropping the call closes the socket, as the caller does right after the marker.
            if event.data == "[DONE]" {
                return whole(&text);
            }
            let Ok(data) = serde_json::from_str::<Value>(&event.data) else { continue };
            if let Some(error) = data.get("error").filter(|error| says_something(error)) {
                heard.error = Some(error.clone());
                return Ending::CleanError(format!("error event {}", error["code"]));
            }
            note(&data, heard);
            for choice in data["choices"].as_array().into_iter().flatten() {
                let piece = choice["delta"]["content"].as_str().unwrap_or_default();
                if !piece.is_empty() {
                    heard.ttft.get_or_insert(event.at);
                    text.push_str(piece);
                }
            }
        }
    }
}

fn note(data: &Value, heard: &mut Heard) {
    if let Some(model) = data["model"].as_str().filter(|model| !model.is_empty()) {
        heard.model = Some(model.to_owned());
    }
    if says_something(&data["usage"]) {
        heard.usage = Some(data["usage"].clone());
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) | Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

fn whole(text: &str) -> Ending {
    let is_whole = text.split_whitespace().eq(SIXTY_WORDS.split_whitespace());
    if is_whole { Ending::Complete } else { Ending::Truncated(text.chars().take(60).collect()) }
}

/// Asks for a whole answer of `fb-ok` and tells whether it came within ten seconds.
pub async fn is_alive(server: SocketAddr) -> bool {
    let call = Call::chat("fb-ok").limit(Duration::from_secs(10));
    call.send(server).await.is_ok_and(|answer| {
        answer.status == 200 && answer.text().split_whitespace().eq(SIXTY_WORDS.split_whitespace())
    })
}
