//! As which call is a target asked?
//!
//! In the client's own dialect where the provider takes it, else as the first conversation that it
//! takes and that `translate` carries the client's into. Only conversations are translated: an
//! embedding, a legacy completion or a count of tokens goes to those that take it themselves. With
//! `translation: none` so does everything.

use crate::base::api::Api;
use crate::config::plan::{Calls, Translation};
use crate::translate;

/// Conversations in the order in which they are tried: the one that most servers speak best first.
const CONVERSATIONS: [Api; 4] = [Api::ChatCompletions, Api::Messages, Api::Responses, Api::GenerateContent];

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
        use Api::{ChatCompletions, Completions, CountTokens, Embeddings, Messages, Responses};
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
            (Calls::default(), ChatCompletions, None),
        ] {
            assert_eq!(reach(takes, api, Translation::Strict), want, "{api:?}");
            let own = want.filter(|own| *own == api);
            assert_eq!(reach(takes, api, Translation::None), own, "{api:?} as it is");
        }
    }
}
