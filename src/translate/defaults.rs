//! Which of the operator's defaults would a target refuse?
//!
//! Routes and providers set values where a client sets none. Some a target cannot have: its model draws
//! tokens as it likes, its server knows no such member, or what the client says excludes it: Anthropic
//! takes no other temperature than 1 beside thinking, and its newer models no `top_p` beside a
//! temperature. What the client says is not set again either, where its dialect's word was left out on
//! the way. Such a default is skipped: it is a wish for the usual case and no fault of the request's.
//!
//! What a name is called in a call, and which have no name there, is `rewrite`'s.

use super::form::Request;
use super::{RequestContext, claude};
use crate::base::api::{Api, Dialect};
use crate::wire::request::Parsed;

/// What a request says that a default may not stand beside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Whether the target is asked to think.
    thinks: bool,
    temperature: bool,
    top_p: bool,
    top_k: bool,
    stop: bool,
    seed: bool,
    penalties: bool,
}

impl Beside {
    /// Looks at what a client says that is to be translated.
    pub(super) fn of(request: &Request) -> Self {
        let sampling = &request.sampling;
        Beside {
            thinks: request.thinking.is_wanted(),
            temperature: sampling.temperature.is_some(),
            top_p: sampling.top_p.is_some(),
            top_k: sampling.top_k.is_some(),
            stop: !sampling.stop.is_empty(),
            seed: sampling.seed.is_some(),
            penalties: sampling.presence_penalty.is_some() || sampling.frequency_penalty.is_some(),
        }
    }

    /// Looks at a request that goes as it came; what it says itself `rewrite` sees.
    #[must_use]
    pub fn own(parsed: &Parsed, body: &[u8]) -> Self {
        // Of what excludes each other only Anthropic's is.
        let says = |name| parsed.api == Api::Messages && parsed.has(body, name);
        Beside {
            thinks: parsed.wants_reasoning,
            temperature: says("temperature"),
            top_p: says("top_p"),
            ..Beside::default()
        }
    }

    fn says(self, name: &str) -> bool {
        match name {
            "temperature" => self.temperature,
            "top_p" => self.top_p,
            "top_k" => self.top_k,
            "stop" | "stop_sequences" => self.stop,
            "seed" => self.seed,
            "presence_penalty" | "frequency_penalty" => self.penalties,
            _ => false,
        }
    }
}

/// Tells whether a target that is asked in this dialect refuses a default, given as its name and JSON.
#[must_use]
pub fn refuses(
    to: Dialect,
    context: &RequestContext<'_>,
    beside: Beside,
    (name, json): (&str, &str),
) -> bool {
    if beside.says(name) {
        return true;
    }
    match to {
        Dialect::OpenAiChat | Dialect::OpenAiResponses => {
            let is_word = name == "reasoning_effort";
            (is_word && context.can_think == Some(false))
                || context.server.refuses(context.model, beside.thinks, name)
        }
        Dialect::AnthropicMessages => refused_by_anthropic(context, beside, name, json),
        Dialect::BedrockConverse if context.model.contains("claude") => {
            refused_by_anthropic(context, beside, name, json)
        }
        Dialect::BedrockConverse
        | Dialect::OpenAiCompletions
        | Dialect::OpenAiEmbeddings
        | Dialect::GeminiGenerate
        | Dialect::CohereChat
        | Dialect::OllamaChat
        | Dialect::GenerateBridge => false,
    }
}

fn refused_by_anthropic(context: &RequestContext<'_>, beside: Beside, name: &str, json: &str) -> bool {
    let number = || json.trim().parse::<f64>().ok();
    match name {
        "temperature" | "top_p" | "top_k" if claude::draws_alone(context.model) => true,
        // 1 is what it thinks at unasked.
        "temperature" => {
            beside.top_p || (beside.thinks && number().is_none_or(|t| !(1.0..=1.0).contains(&t)))
        }
        "top_p" => beside.temperature || (beside.thinks && number().is_none_or(|p| p < claude::TOP_P_MIN)),
        "top_k" => beside.thinks,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Server;
    use super::*;

    const DEFAULTS: [(&str, &str); 7] = [
        ("temperature", "0.3"),
        ("top_p", "0.9"),
        ("top_k", "5"),
        ("stop", "[\"x\"]"),
        ("seed", "7"),
        ("reasoning_effort", "\"low\""),
        ("max_tokens", "9"),
    ];

    fn skipped(to: Dialect, context: &RequestContext<'_>, beside: Beside) -> String {
        let skipped = DEFAULTS.iter().filter(|default| refuses(to, context, beside, **default));
        skipped.map(|(name, _)| *name).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn a_default_that_target_or_request_excludes_is_skipped() {
        let (chat, messages, bedrock) =
            (Dialect::OpenAiChat, Dialect::AnthropicMessages, Dialect::BedrockConverse);
        let none = Beside::default();
        let thinks = Beside { thinks: true, ..none };
        let warm = Beside { temperature: true, ..none };
        for (to, server, model, beside, want) in [
            (chat, Server::Other, "m", none, ""),
            (chat, Server::OpenAi, "gpt-4o", none, "top_k"),
            (chat, Server::OpenAi, "o3", none, "temperature,top_p,top_k,stop"),
            (chat, Server::OpenAi, "gpt-5.2", none, "top_k,stop"),
            (chat, Server::OpenAi, "gpt-5.2", thinks, "temperature,top_p,top_k,stop"),
            (chat, Server::Mistral, "mistral-large-latest", none, "top_k,seed,reasoning_effort"),
            (chat, Server::Mistral, "mistral-small-latest", warm, "temperature,top_k,seed"),
            (messages, Server::Other, "claude-sonnet-4-5", none, ""),
            (messages, Server::Other, "claude-sonnet-4-5", thinks, "temperature,top_p,top_k"),
            (messages, Server::Other, "claude-sonnet-4-5", warm, "temperature,top_p"),
            (messages, Server::Other, "claude-opus-4-7", none, "temperature,top_p,top_k"),
            (bedrock, Server::Other, "eu.anthropic.claude-opus-4-7-v1:0", none, "temperature,top_p,top_k"),
            (bedrock, Server::Other, "amazon.nova-pro-v1:0", thinks, ""),
            (Dialect::GeminiGenerate, Server::Other, "gemini-2.5-pro", warm, "temperature"),
        ] {
            let context = RequestContext { server, ..RequestContext::new(model) };
            assert_eq!(skipped(to, &context, beside), want, "{to:?} {model} {beside:?}");
        }
        let cannot = RequestContext { can_think: Some(false), ..RequestContext::new("gpt-4o") };
        assert_eq!(skipped(chat, &cannot, none), "reasoning_effort");
        let warmest = ("temperature", "1");
        assert!(!refuses(messages, &RequestContext::new("claude-sonnet-4-5"), thinks, warmest));
    }
}
