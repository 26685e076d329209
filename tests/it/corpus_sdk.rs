//! Do the real SDKs take what we make of recorded answers?
//!
//! Every recorded success of a conversation is translated into every other dialect that a client
//! speaks and given to that dialect's own SDK: its models check every answer and every event
//! strictly, then a real client reads the bytes over a transport without a network, puts streams
//! together by its own rules, and must have heard what the recording says: text, calls, why it
//! ended, tokens (`tests/sdk/answers.py`). One Python process for each dialect. Where Python or
//! the package index cannot be reached the run is skipped, loudly, as in `sdk`.

use crate::recordings::{self, Recording};
use crate::translate::{context, streamed};
use crate::{corpus_page, sdk};
use pointsman::base::api::Dialect;
use pointsman::translate::{self, Asked, State};
use pointsman::wire::{StreamReader, Usage, answer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Dialects of clients, by the word that `answers.py` has for them.
const CLIENTS: [(&str, Dialect); 4] = [
    ("chat", Dialect::OpenAiChat),
    ("responses", Dialect::OpenAiResponses),
    ("messages", Dialect::AnthropicMessages),
    ("gemini", Dialect::GeminiGenerate),
];

/// Recorded streams that are not whole; nothing is given to a client as an answer.
const NOT_WHOLE: [(&str, &str); 1] = [(
    "google-vertex__gemini-streamGenerateContent__sse__200__c3e466bd",
    "one candidate without content and without a reason for its end",
)];

fn usage(recording: &Recording, dialect: Dialect) -> Usage {
    if !recording.is_stream {
        return answer::read(dialect, &recording.body).unwrap().usage;
    }
    let mut reader = StreamReader::new(dialect);
    reader.push(recording.body.clone());
    reader.finish();
    reader.usage()
}

/// What a client is told of a recording.
fn told(recording: &Recording, from: Dialect, to: Dialect) -> String {
    if recording.is_stream {
        let (body, state) = streamed(from, to, &recordings::cut(recording, 50));
        assert_eq!(state, State::Ended, "{} to {to:?}", recording.id);
        return body;
    }
    let asked = Asked { model: "target/model".to_owned(), ..Asked::default() };
    let body = translate::answer(from, to, &recording.body, &context(&asked));
    String::from_utf8(body.unwrap_or_else(|fault| panic!("{}: {fault}", recording.id))).unwrap()
}

/// What a client must hear of a recording.
fn want(recording: &Recording, from: Dialect) -> Value {
    let (is_stream, body) = (recording.is_stream, &recording.body);
    let said = recordings::said(from, is_stream, body);
    let end = recordings::end(from, is_stream, body, !said.calls.is_empty());
    let usage = usage(recording, from);
    json!({
        "text": said.text,
        "calls": said.calls,
        "end": end.as_word(),
        "input": usage.input,
        "output": usage.output,
    })
}

/// Writes a file for each client's dialect, a line for each answer; counts the answers, and the
/// streams among them, by what they are translated from and to.
fn write_answers(
    recordings: &[Recording],
    folder: &Path,
) -> BTreeMap<(&'static str, &'static str), (usize, usize)> {
    let mut counts = BTreeMap::<_, (usize, usize)>::new();
    let mut files = CLIENTS.map(|_| String::new());
    for recording in recordings.iter().filter(|x| !NOT_WHOLE.iter().any(|(id, _)| *id == x.id)) {
        let Some(from) =
            recording.dialect.filter(|from| CLIENTS.iter().any(|(_, to)| translate::is_pair(*to, *from)))
        else {
            continue;
        };
        let want = want(recording, from);
        for ((word, to), file) in CLIENTS.iter().zip(&mut files).filter(|((_, to), _)| *to != from) {
            let line = json!({
                "id": recording.id,
                "is_stream": recording.is_stream,
                "body": told(recording, from, *to),
                "want": want,
            });
            writeln!(file, "{line}").unwrap();
            let count = counts.entry((from.as_label(), *word)).or_default();
            count.0 += 1;
            count.1 += usize::from(recording.is_stream);
        }
    }
    for ((word, _), file) in CLIENTS.iter().zip(files) {
        fs::write(folder.join(word), file).unwrap();
    }
    counts
}

#[tokio::test]
async fn every_recorded_answer_is_taken_by_the_sdk_of_every_other_dialect() {
    let recordings = recordings::successes();
    if recordings.is_empty() {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("answers-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let counts = write_answers(&recordings, &folder);
    let run = async |word: &str| {
        let file = folder.join(word);
        sdk::script("tests/sdk/answers.py", &[word, file.to_str().unwrap()]).await
    };
    let runs = tokio::join!(run("chat"), run("responses"), run("messages"), run("gemini"));
    let mut faults = String::new();
    for run in [runs.0, runs.1, runs.2, runs.3] {
        // `sdk` has said why there is none.
        let Some((is_ok, output)) = run else { return };
        eprintln!("{}", output.lines().last().unwrap_or_default());
        if !is_ok {
            faults += &output;
        }
    }
    assert!(faults.is_empty(), "the SDKs are not content (see {}):\n{faults}", folder.display());
    fs::remove_dir_all(&folder).unwrap();
    let mut table =
        String::from("| recorded in | told in | answers | of them streams |\n|---|---|---|---|\n");
    for ((from, to), (all, streams)) in &counts {
        let _ = writeln!(table, "| {from} | {to} | {all} | {streams} |");
    }
    let (all, streams) = counts.values().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    let _ = writeln!(table, "| **all** | | **{all}** | **{streams}** |");
    corpus_page::write("sdk", &table);
}
