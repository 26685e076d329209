//! As which call is a target asked?
//!
//! In the client's own dialect where the provider takes it, byte for byte; else as the first
//! conversation that it takes and that `translate` carries the client's into: the provider's own
//! dialect before one that it takes for compatibility's sake. Only conversations are translated: an
//! embedding, a legacy completion or a count of tokens goes to those that take it themselves. With
//! `translation: none` so does everything.

use crate::base::api::Api;
use crate::config::plan::{Calls, Translation};
use crate::translate;

/// Conversations in the order in which they are tried: first those that one make of server speaks,
/// which says most to it, then the one that most servers speak best.
const CONVERSATIONS: [Api; 8] = [
    Api::Converse,
    Api::CohereChat,
    Api::OllamaChat,
    Api::ChatCompletions,
    Api::Messages,
    Api::Responses,
    Api::GenerateContent,
    Api::Generate,
];

/// Returns the call as which a target of a provider that takes these calls is asked; nothing where
/// it cannot be.
#[must_use]
pub fn reach(takes: Calls, api: Api, translation: Translation) -> Option<Api> {
    match (takes.has(api), translation) {
        (true, _) => return Some(api),
        (false, Translation::None) => return None,
        (false, Translation::Lossy | Translation::Strict) => {}
    }
    let is_reached = |other: &Api| takes.has(*other) && translate::is_pair(api.dialect(), other.dialect());
    // A count of tokens has the dialect of a conversation and is none.
    CONVERSATIONS.contains(&api).then(|| CONVERSATIONS.into_iter().find(is_reached)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(apis: &[Api]) -> Calls {
        apis.iter().copied().collect()
    }

    #[test]
    fn a_target_is_asked_in_the_clients_dialect_or_in_one_that_it_is_carried_into() {
        use Api::{
            ChatCompletions, CohereChat, Completions, Converse, CountTokens, Embeddings, Generate,
            GenerateContent, Messages, OllamaChat, Responses,
        };
        let openai = takes(&[ChatCompletions, Completions, Embeddings, Responses]);
        let claude = takes(&[Messages, CountTokens]);
        for (takes, api, want) in [
            (openai, ChatCompletions, Some(ChatCompletions)),
            (openai, Responses, Some(Responses)),
            (openai, Messages, Some(ChatCompletions)),
            (openai, CountTokens, None),
            (claude, Messages, Some(Messages)),
            (claude, CountTokens, Some(CountTokens)),
            (claude, ChatCompletions, Some(Messages)),
            (claude, Embeddings, None),
            (claude, Completions, None),
            (takes(&[GenerateContent, Embeddings]), GenerateContent, Some(GenerateContent)),
            (takes(&[GenerateContent, Embeddings]), Responses, Some(GenerateContent)),
            (takes(&[GenerateContent, Embeddings]), Embeddings, Some(Embeddings)),
            (takes(&[Converse]), Messages, Some(Converse)),
            (takes(&[Converse]), GenerateContent, Some(Converse)),
            (takes(&[ChatCompletions, CohereChat]), ChatCompletions, Some(ChatCompletions)),
            (takes(&[ChatCompletions, CohereChat]), Messages, Some(CohereChat)),
            (takes(&[ChatCompletions, OllamaChat]), Responses, Some(OllamaChat)),
            (takes(&[Generate]), ChatCompletions, Some(Generate)),
            (takes(&[Generate]), Embeddings, None),
            (Calls::default(), ChatCompletions, None),
        ] {
            assert_eq!(reach(takes, api, Translation::Strict), want, "{api:?}");
            let own = want.filter(|own| *own == api);
            assert_eq!(reach(takes, api, Translation::None), own, "{api:?} as it is");
        }
    }
}
