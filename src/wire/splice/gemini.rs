//! Joins chunks of Gemini's.
//!
//! A chunk is a whole response: what the client has of its text is taken out, and where nothing is
//! left of it it is dropped. Thoughts are dropped until the second stream has caught up, for what they
//! thought of the client has read already; anything else that comes before then is another answer.

use super::Splice;
use serde_json::Value;

impl Splice {
    /// Works one chunk over; tells whether it passes.
    pub(super) fn take_gemini(&mut self, value: &mut Value) -> bool {
        if let (Some(id), Some(own)) = (&self.place.id, value.get_mut("responseId")) {
            *own = Value::String(id.clone());
        }
        let Some(candidates) = value.get_mut("candidates").and_then(Value::as_array_mut) else {
            return self.owed.is_empty();
        };
        let mut passes = false;
        for candidate in candidates {
            if let Some(parts) = candidate.pointer_mut("/content/parts").and_then(Value::as_array_mut) {
                parts.retain_mut(|part| self.keeps_part(part));
                passes |= !parts.is_empty();
            }
            if candidate.get("finishReason").is_some_and(|reason| !reason.is_null()) {
                self.has_diverged |= !self.owed.is_empty();
                passes = true;
            }
        }
        passes
    }

    fn keeps_part(&mut self, part: &mut Value) -> bool {
        let is_thought = part.get("thought") == Some(&Value::Bool(true));
        let Some(text) = part.get("text").and_then(Value::as_str).filter(|_| !is_thought) else {
            self.has_diverged |= !is_thought && !self.owed.is_empty();
            return self.owed.is_empty();
        };
        let rest = self.unheard(text);
        let has_more = !rest.is_empty() || part.get("thoughtSignature").is_some();
        if let Some(slot) = part.get_mut("text") {
            *slot = Value::String(rest);
        }
        has_more
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Splice, Way};
    use crate::base::api::Dialect;
    use crate::wire::transcript::Transcript;
    use bytes::Bytes;
    use serde_json::{Value, json};

    fn chunk(parts: &Value, finish: Option<&str>) -> Bytes {
        let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
        if let Some(finish) = finish {
            candidate["finishReason"] = finish.into();
        }
        Bytes::from(format!("data: {}\r\n\r\n", json!({"candidates": [candidate], "responseId": "two"})))
    }

    fn heard(second: &[Bytes]) -> (String, bool, String) {
        let mut told = Transcript::new(Dialect::GeminiGenerate);
        told.keep(&Bytes::from_static(
            b"data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"the quick\"}]},\"index\":0}],\"responseId\":\"one\"}\r\n\r\n",
        ));
        let mut splice = Splice::new(&mut told, Way::Verify);
        let (mut all, mut diverged) = (String::new(), false);
        for event in second {
            let spliced = splice.push(event);
            diverged |= spliced.diverged;
            for release in spliced.release {
                all.push_str(std::str::from_utf8(&release).unwrap());
                told.keep(&release);
            }
        }
        (told.text().to_owned(), diverged, all)
    }

    #[test]
    fn what_the_client_has_is_taken_out_of_a_second_telling() {
        let (text, diverged, all) = heard(&[
            chunk(&json!([{"text": "hm", "thought": true}]), None),
            chunk(&json!([{"text": "the qu"}]), None),
            chunk(&json!([{"text": "ick brown"}]), None),
            chunk(&json!([{"text": " fox"}, {"functionCall": {"name": "f"}}]), Some("STOP")),
        ]);
        assert_eq!((text.as_str(), diverged), ("the quick brown fox", false), "{all}");
        assert!(!all.contains("two") && !all.contains("hm") && all.contains("functionCall"), "{all}");
        assert_eq!(all.matches("data:").count(), 2, "{all}");
    }

    #[test]
    fn another_answer_diverges_and_shows_nothing() {
        for second in [
            chunk(&json!([{"text": "the slow"}]), None),
            chunk(&json!([{"text": "the"}]), Some("STOP")),
            chunk(&json!([{"functionCall": {"name": "f"}}]), None),
        ] {
            let (_, diverged, all) = heard(std::slice::from_ref(&second));
            assert!(diverged && all.is_empty(), "{second:?}");
        }
    }
}
