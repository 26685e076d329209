//! What does a server refuse that others of its dialect take?
//!
//! Chat completions are spoken by many. OpenAI refuses members that it does not know, and its models
//! that reason refuse to be told how to draw tokens; Groq has its stop texts and strict schemas from
//! it; Mistral wants ids of its own form and refuses with 422 whatever it does not know, some of what
//! all others take with it (`seed`, which is `random_seed` there, `user`, `stream_options`). All others
//! get what the client said: most ignore what they do not know. The word `openai` alone tells nothing,
//! because any server may be configured under it: the model's name must be one of OpenAI's too.
//!
//! Source: OpenAI's API reference and reasoning guide, Groq's and Mistral's API references,
//! openai-agents-python#442 and avante.nvim#2347 (Mistral's 422 for `stream_options`), read 2026-11.

use super::form::{Effort, Sampling};
use super::ids;
use super::loss::{Loss, Losses};
use serde_json::Number;
use std::borrow::Cow;

/// Whose server it is, as far as that changes what is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Server {
    /// OpenAI's own, or Azure's.
    OpenAi,
    /// Groq's.
    Groq,
    /// Mistral's.
    Mistral,
    /// Anybody else's.
    #[default]
    Other,
}

impl Server {
    /// Tells it by the catalogue's word for the provider and by the model.
    #[must_use]
    pub fn of(word: &str, model: &str) -> Self {
        match word {
            "azure" => Server::OpenAi,
            "openai" if is_openai_s(model) => Server::OpenAi,
            "groq" => Server::Groq,
            "mistral" => Server::Mistral,
            _ => Server::Other,
        }
    }

    /// Returns the sampling that it takes; what it does not is noted.
    pub(super) fn sampling<'a>(
        self,
        asked: &'a Sampling,
        model: &str,
        effort: Option<Effort>,
        lost: &mut Losses,
    ) -> Cow<'a, Sampling> {
        let mut sampling = Cow::Borrowed(asked);
        let refuses = |name| self.refuses(model, effort.is_some(), name);
        if asked.top_k.is_some() && refuses("top_k") {
            lost.add(Loss::TopK);
            sampling.to_mut().top_k = None;
        }
        if asked.stop.len() > self.stops_max() {
            lost.add(Loss::Stop);
            sampling.to_mut().stop.truncate(self.stops_max());
        }
        if !asked.stop.is_empty() && refuses("stop") {
            lost.add(Loss::Stop);
            sampling.to_mut().stop.clear();
        }
        if draws_alone(model, effort.is_some()) {
            drawn_alone(asked, sampling.to_mut(), lost);
        }
        sampling
    }

    /// Tells whether it refuses a member that steers the answer, whatever its value; `thinks` where
    /// the model is told how hard to think.
    pub(super) fn refuses(self, model: &str, thinks: bool, name: &str) -> bool {
        match name {
            "top_k" => self != Server::Other,
            "stop" | "stop_sequences" => reasons_before_it_says(model),
            "temperature" | "top_p" | "presence_penalty" | "frequency_penalty" | "logprobs"
            | "top_logprobs" => draws_alone(model, thinks),
            "seed" => self.seed_name() != name,
            "stream_options" => !self.takes_stream_options(),
            "user" => !self.takes_user(),
            "reasoning_effort" => self.effort_word(model, Effort::High).is_none(),
            _ => false,
        }
    }

    /// Returns its name for the number that makes answers repeatable.
    pub(super) fn seed_name(self) -> &'static str {
        match self {
            Server::Mistral => "random_seed",
            Server::OpenAi | Server::Groq | Server::Other => "seed",
        }
    }

    /// Tells whether it takes the end user's name.
    pub(super) fn takes_user(self) -> bool {
        self != Server::Mistral
    }

    /// Tells whether it takes `stream_options`; who does not tells usage unasked.
    pub(super) fn takes_stream_options(self) -> bool {
        self != Server::Mistral
    }

    /// Returns its word for how hard to think; nothing where the model takes none. Mistral's knows
    /// one, and only the models that think when asked.
    pub(super) fn effort_word(self, model: &str, effort: Effort) -> Option<&'static str> {
        match self {
            Server::Mistral => thinks_when_asked(model).then_some("high"),
            Server::OpenAi | Server::Groq | Server::Other => Some(effort.as_word()),
        }
    }

    /// Tells whether a schema that is to be followed exactly must be one of OpenAI's subset.
    pub(super) fn wants_subset(self) -> bool {
        match self {
            Server::OpenAi | Server::Groq => true,
            Server::Mistral | Server::Other => false,
        }
    }

    /// Returns the id of a call as it takes it.
    pub(super) fn call_id(self, id: &str) -> Cow<'_, str> {
        match self {
            Server::Mistral => ids::of_nine(id),
            Server::OpenAi | Server::Groq | Server::Other => ids::safe(id),
        }
    }

    fn stops_max(self) -> usize {
        match self {
            Server::OpenAi | Server::Groq => 4,
            Server::Mistral | Server::Other => usize::MAX,
        }
    }
}

/// Takes out what a model does not take that draws tokens as it likes; 1 is what it does unasked.
fn drawn_alone(asked: &Sampling, sampling: &mut Sampling, lost: &mut Losses) {
    lost.add_if(is_not(asked.temperature.as_ref(), 1.0), Loss::Temperature);
    lost.add_if(is_not(asked.top_p.as_ref(), 1.0), Loss::TopP);
    lost.add_if(
        is_not(asked.presence_penalty.as_ref(), 0.0) || is_not(asked.frequency_penalty.as_ref(), 0.0),
        Loss::Penalties,
    );
    lost.add_if(asked.logprobs == Some(true), Loss::Logprobs);
    *sampling = Sampling {
        top_k: sampling.top_k.take(),
        seed: sampling.seed.take(),
        stop: std::mem::take(&mut sampling.stop),
        ..Sampling::default()
    };
}

/// Tells whether a number is set to another than this.
pub(super) fn is_not(number: Option<&Number>, default: f64) -> bool {
    number.and_then(Number::as_f64).is_some_and(|n| (n - default).abs() > f64::EPSILON)
}

fn name_of(model: &str) -> &str {
    model.rsplit('/').next().unwrap_or(model)
}

fn is_openai_s(model: &str) -> bool {
    let name = name_of(model);
    let is_its = ["gpt-", "chatgpt-", "o1", "o3", "o4"].iter().any(|family| name.starts_with(family));
    is_its && !name.starts_with("gpt-oss")
}

/// Tells whether it is one of OpenAI's models that reason: they refuse `max_tokens`, which is all
/// that compatible servers know.
pub(super) fn reasons(model: &str) -> bool {
    let name = name_of(model);
    ["o1", "o3", "o4", "gpt-5"].iter().any(|family| name.starts_with(family))
}

/// The same without those of the family that only chat, which take what others do.
fn reasons_before_it_says(model: &str) -> bool {
    reasons(model) && !model.contains("-chat")
}

/// Tells whether a model cannot be told how to draw tokens: those that reason, but for those since
/// 5.1 while they do not, which is what they do unasked.
fn draws_alone(model: &str, thinks: bool) -> bool {
    reasons_before_it_says(model) && (thinks || !name_of(model).starts_with("gpt-5."))
}

/// Tells whether a model of Mistral's takes `reasoning_effort`: Small since 4 (2603) and Medium since
/// 3.5 (2604), by the name that moves with them or their month.
fn thinks_when_asked(model: &str) -> bool {
    let name = name_of(model);
    let edition = name.strip_prefix("mistral-small-").or_else(|| name.strip_prefix("mistral-medium-"));
    edition.is_some_and(|edition| {
        edition == "latest" || edition.parse::<u16>().is_ok_and(|month| (2603..10_000).contains(&month))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_its_word_and_openai_s_by_the_model_too() {
        for (word, model, want) in [
            ("openai", "gpt-4o-mini", Server::OpenAi),
            ("openai", "o3", Server::OpenAi),
            ("openai", "qwen3-32b", Server::Other),
            ("openai", "openai/gpt-oss-120b", Server::Other),
            ("azure", "my-deployment", Server::OpenAi),
            ("groq", "openai/gpt-oss-120b", Server::Groq),
            ("mistral", "mistral-small-latest", Server::Mistral),
            ("openrouter", "openai/gpt-4o", Server::Other),
        ] {
            assert_eq!(Server::of(word, model), want, "{word} {model}");
        }
    }

    #[test]
    fn what_a_server_refuses_is_left_out_and_noted() {
        let tenths = |n: u8| Number::from_f64(f64::from(n) / 10.0);
        let asked = Sampling {
            temperature: tenths(2),
            top_p: tenths(9),
            top_k: Some(40.into()),
            stop: ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec(),
            ..Sampling::default()
        };
        for (server, model, effort, want, stops, heats) in [
            (Server::Other, "m", None, "", 5, true),
            (Server::Mistral, "m", None, "top_k", 5, true),
            (Server::Groq, "m", None, "top_k,stop", 4, true),
            (Server::OpenAi, "gpt-4o", Some(Effort::Low), "top_k,stop", 4, true),
            (Server::OpenAi, "o3", None, "temperature,top_p,top_k,stop", 0, false),
            (Server::OpenAi, "gpt-5-chat-latest", None, "top_k,stop", 4, true),
            (Server::OpenAi, "gpt-5-mini", None, "temperature,top_p,top_k,stop", 0, false),
            (Server::OpenAi, "gpt-5.2", None, "top_k,stop", 0, true),
            (Server::OpenAi, "gpt-5.2", Some(Effort::High), "temperature,top_p,top_k,stop", 0, false),
            (Server::Other, "openai/o4-mini", None, "temperature,top_p,stop", 0, false),
        ] {
            let mut lost = Losses::default();
            let got = server.sampling(&asked, model, effort, &mut lost);
            let told = (lost.to_string(), got.stop.len(), got.temperature.is_some());
            assert_eq!(told, (want.to_owned(), stops, heats), "{server:?} {model} {effort:?}");
            assert_eq!(got.top_k.is_some(), server == Server::Other, "{server:?} {model}");
        }
        assert_eq!(Server::Mistral.effort_word("magistral-medium-latest", Effort::Low), None);
        assert_eq!(Server::Mistral.effort_word("mistral-small-2603", Effort::Low), Some("high"));
        assert_eq!(Server::Mistral.effort_word("mistral-small-2506", Effort::Low), None);
        let warm = Sampling { temperature: tenths(10), ..Sampling::default() };
        let mut lost = Losses::default();
        assert_eq!(Server::OpenAi.sampling(&warm, "o3", None, &mut lost).temperature, None);
        assert!(lost.is_empty(), "1 is what it does unasked");
    }
}
