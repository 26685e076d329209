//! What cannot be carried from one dialect to another?
//!
//! A closed list, so that a warning, a reason to skip a target and `translation: strict` all speak
//! of the same things. A loss is a *hint* where the answer may become worse or dearer but not
//! another one than was asked for ([`Loss::is_hint`]): a mark for a cache, thoughts of earlier
//! turns, labels. All others change what was asked.
//!
//! Not losses: numbers that become the nearest word (a thinking budget as an effort), text blocks
//! that become one text, ids that are rewritten on both ends.

use std::fmt;

/// One thing that the target's dialect cannot say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Loss {
    /// More answers than one (`n`, `candidateCount`).
    Choices,
    /// `temperature`, or one beyond the dialect's range.
    Temperature,
    /// `top_p`.
    TopP,
    /// `top_k`.
    TopK,
    /// `seed`.
    Seed,
    /// Stop texts, or more of them than the dialect takes.
    Stop,
    /// Presence and frequency penalties.
    Penalties,
    /// Probabilities of tokens.
    Logprobs,
    /// A limit of the answer's length.
    MaxTokens,
    /// Output after a JSON schema, or any JSON object.
    OutputFormat,
    /// Thinking as asked for.
    Thinking,
    /// Thoughts of earlier turns.
    ThinkingHistory,
    /// Tools that another provider runs.
    ServerTool,
    /// Functions of the client's.
    Tools,
    /// Which tool must be used.
    ToolChoice,
    /// Whether tools may be called in parallel.
    ParallelTools,
    /// Arguments that follow the schema exactly.
    StrictTools,
    /// That a tool failed.
    ToolErrorFlag,
    /// A picture.
    Image,
    /// How closely to look at a picture.
    ImageDetail,
    /// The name of a document, or what a schema is for.
    Caption,
    /// A document.
    Document,
    /// Sound.
    Audio,
    /// A file kept at another provider.
    File,
    /// A part that only its own dialect knows.
    ForeignPart,
    /// An instruction after the beginning, moved to it.
    InstructionPlace,
    /// Names of speakers.
    SpeakerName,
    /// Marks for the prompt cache.
    CacheMark,
    /// The end user's name.
    User,
    /// Labels for the client's records.
    Metadata,
    /// What the provider keeps of earlier turns (`previous_response_id`, `conversation`).
    State,
    /// Anything else that we do not know.
    UnknownMember,
}

impl Loss {
    /// Every loss, in the order of the enum.
    pub const ALL: [Loss; 32] = [
        Loss::Choices,
        Loss::Temperature,
        Loss::TopP,
        Loss::TopK,
        Loss::Seed,
        Loss::Stop,
        Loss::Penalties,
        Loss::Logprobs,
        Loss::MaxTokens,
        Loss::OutputFormat,
        Loss::Thinking,
        Loss::ThinkingHistory,
        Loss::ServerTool,
        Loss::Tools,
        Loss::ToolChoice,
        Loss::ParallelTools,
        Loss::StrictTools,
        Loss::ToolErrorFlag,
        Loss::Image,
        Loss::ImageDetail,
        Loss::Caption,
        Loss::Document,
        Loss::Audio,
        Loss::File,
        Loss::ForeignPart,
        Loss::InstructionPlace,
        Loss::SpeakerName,
        Loss::CacheMark,
        Loss::User,
        Loss::Metadata,
        Loss::State,
        Loss::UnknownMember,
    ];

    /// Returns the word for logs and reasons.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Loss::Choices => "choices",
            Loss::Temperature => "temperature",
            Loss::TopP => "top_p",
            Loss::TopK => "top_k",
            Loss::Seed => "seed",
            Loss::Stop => "stop",
            Loss::Penalties => "penalties",
            Loss::Logprobs => "logprobs",
            Loss::MaxTokens => "max_tokens",
            Loss::OutputFormat => "output_format",
            Loss::Thinking => "thinking",
            Loss::ThinkingHistory => "thinking_history",
            Loss::ServerTool => "server_tool",
            Loss::Tools => "tools",
            Loss::ToolChoice => "tool_choice",
            Loss::ParallelTools => "parallel_tools",
            Loss::StrictTools => "strict_tools",
            Loss::ToolErrorFlag => "tool_error_flag",
            Loss::Image => "image",
            Loss::ImageDetail => "image_detail",
            Loss::Caption => "caption",
            Loss::Document => "document",
            Loss::Audio => "audio",
            Loss::File => "file",
            Loss::ForeignPart => "foreign_part",
            Loss::InstructionPlace => "instruction_place",
            Loss::SpeakerName => "speaker_name",
            Loss::CacheMark => "cache_mark",
            Loss::User => "user",
            Loss::Metadata => "metadata",
            Loss::State => "state",
            Loss::UnknownMember => "unknown_member",
        }
    }

    /// Tells whether the answer may be worse or dearer without it, but not another than was asked
    /// for.
    #[must_use]
    pub fn is_hint(self) -> bool {
        match self {
            Loss::ThinkingHistory
            | Loss::ToolErrorFlag
            | Loss::ImageDetail
            | Loss::Caption
            | Loss::InstructionPlace
            | Loss::SpeakerName
            | Loss::CacheMark
            | Loss::User
            | Loss::Metadata => true,
            Loss::Choices
            | Loss::Temperature
            | Loss::TopP
            | Loss::TopK
            | Loss::Seed
            | Loss::Stop
            | Loss::Penalties
            | Loss::Logprobs
            | Loss::MaxTokens
            | Loss::OutputFormat
            | Loss::Thinking
            | Loss::ServerTool
            | Loss::Tools
            | Loss::ToolChoice
            | Loss::ParallelTools
            | Loss::StrictTools
            | Loss::Image
            | Loss::Document
            | Loss::Audio
            | Loss::File
            | Loss::ForeignPart
            | Loss::State
            | Loss::UnknownMember => false,
        }
    }
}

/// A set of losses.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses(u64);

impl Losses {
    /// Adds one.
    pub fn add(&mut self, loss: Loss) {
        self.0 |= 1 << (loss as u8);
    }

    /// Adds one if it is so.
    pub fn add_if(&mut self, is_lost: bool, loss: Loss) {
        if is_lost {
            self.add(loss);
        }
    }

    /// Tells whether it is among them.
    #[must_use]
    pub fn has(self, loss: Loss) -> bool {
        self.0 & (1 << (loss as u8)) != 0
    }

    /// Tells whether nothing was lost.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Tells whether something was lost that was asked for; hints are not.
    #[must_use]
    pub fn matter(self) -> bool {
        self.iter().any(|loss| !loss.is_hint())
    }

    /// Returns them in the order of the enum.
    pub fn iter(self) -> impl Iterator<Item = Loss> {
        Loss::ALL.into_iter().filter(move |loss| self.has(*loss))
    }
}

impl fmt::Debug for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Writes the words with commas: `seed,top_k`.
impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, loss) in self.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "," })?;
            f.write_str(loss.as_label())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_has_a_place_and_a_word_of_its_own() {
        let mut all = Losses::default();
        for (at, loss) in Loss::ALL.into_iter().enumerate() {
            assert_eq!(loss as usize, at, "{loss:?}");
            assert!(!all.has(loss));
            all.add(loss);
        }
        assert!(all.iter().eq(Loss::ALL));
        let mut words: Vec<_> = Loss::ALL.map(Loss::as_label).to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Loss::ALL.len());
    }

    #[test]
    fn hints_do_not_matter_and_the_words_are_listed() {
        let mut losses = Losses::default();
        assert!(losses.is_empty() && !losses.matter());
        losses.add(Loss::CacheMark);
        assert!(!losses.is_empty() && !losses.matter());
        losses.add(Loss::Seed);
        assert!(losses.matter());
        assert_eq!(losses.to_string(), "seed,cache_mark");
    }
}
