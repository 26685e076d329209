//! Tokens, as the provider counted them.
//!
//! One reader for every dialect: the names do not collide. `prompt_tokens` (OpenAI chat),
//! `input_tokens` (OpenAI responses, Anthropic), `promptTokenCount` (Gemini) are all the input.
//! Anthropic leaves cached tokens out of `input_tokens`, the others count them in; [`Usage::input`]
//! always counts them in. Gemini leaves thoughts out of `candidatesTokenCount`; [`Usage::output`]
//! always counts them in; so for xAI, whose `total_tokens` is the sum of all three, and wherever
//! there is more reasoning than answer (Vercel's gateway before Gemini). Bedrock counts as Anthropic does, under names of its own. Cohere counts
//! twice: what it bills and what the model saw (`tokens`), which is ours. Providers repeat usage (Groq twice, xAI and Gemini in every event), so a
//! later report replaces an earlier one and nothing is ever added up over events.

use super::json::{Broken, Scan};

/// Token counts of one answer; absent where the provider said nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, those read from and written to a cache included.
    pub input: Option<u64>,
    /// Tokens of the answer, reasoning included.
    pub output: Option<u64>,
    /// Tokens of the prompt that came from a cache.
    pub cached: Option<u64>,
    /// Tokens of the prompt that were written to a cache (Anthropic).
    pub cache_written: Option<u64>,
    /// Tokens of the answer that were reasoning.
    pub reasoning: Option<u64>,
}

impl Usage {
    /// Reads a usage object; any other text reads as nothing said.
    #[must_use]
    pub fn parse(text: &str) -> Usage {
        read(&mut Scan::new(text.as_bytes())).unwrap_or_default()
    }

    /// Takes what a later report says; what it leaves out stays.
    pub fn replace_by(&mut self, later: Usage) {
        self.input = later.input.or(self.input);
        self.output = later.output.or(self.output);
        self.cached = later.cached.or(self.cached);
        self.cache_written = later.cache_written.or(self.cache_written);
        self.reasoning = later.reasoning.or(self.reasoning);
    }
}

/// Reads the usage object under the cursor; any other value is skipped.
pub(super) fn read(scan: &mut Scan<'_>) -> Result<Usage, Broken> {
    let mut usage = Usage::default();
    // Anthropic's cache counts come beside an input count that leaves them out; OpenRouter and
    // others repeat them beside `prompt_tokens`, which counts them in.
    let (mut beside_read, mut beside_written) = (None, None);
    let mut counts_in = false;
    let (mut thoughts, mut total) = (None, None);
    let (mut billed, mut counted) = (Usage::default(), Usage::default());
    scan.members::<Broken>(|scan, key| {
        match key.bytes().as_ref() {
            b"prompt_tokens" => (usage.input, counts_in) = (scan.count()?, true),
            b"input_tokens" | b"promptTokenCount" | b"inputTokens" => usage.input = scan.count()?,
            b"completion_tokens" | b"output_tokens" | b"candidatesTokenCount" | b"outputTokens" => {
                usage.output = scan.count()?;
            }
            b"cache_read_input_tokens" | b"cacheReadInputTokens" => beside_read = scan.count()?,
            b"cache_creation_input_tokens" | b"cacheWriteInputTokens" => beside_written = scan.count()?,
            b"prompt_cache_hit_tokens" | b"cachedContentTokenCount" | b"cached_tokens" => {
                usage.cached = scan.count()?.or(usage.cached);
            }
            b"billed_units" => billed = read(scan)?,
            b"tokens" => counted = read(scan)?,
            b"thoughtsTokenCount" => thoughts = scan.count()?,
            b"total_tokens" => total = scan.count()?,
            b"prompt_tokens_details"
            | b"input_tokens_details"
            | b"completion_tokens_details"
            | b"output_tokens_details" => {
                scan.members::<Broken>(|scan, key| {
                    match key.bytes().as_ref() {
                        b"cached_tokens" => usage.cached = scan.count()?.or(usage.cached),
                        b"cache_write_tokens" => usage.cache_written = scan.count()?.or(usage.cache_written),
                        b"reasoning_tokens" | b"thinking_tokens" => usage.reasoning = scan.count()?,
                        _ => {
                            scan.skip()?;
                        }
                    }
                    Ok(())
                })?;
            }
            _ => {
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    if beside_read.is_some() || beside_written.is_some() {
        let beside = beside_read.unwrap_or(0).saturating_add(beside_written.unwrap_or(0));
        if !counts_in {
            usage.input = usage.input.map(|input| input.saturating_add(beside));
        }
        usage.cached = beside_read.or(usage.cached);
        usage.cache_written = beside_written.or(usage.cache_written);
    }
    if let Some(thoughts) = thoughts {
        usage.output = Some(usage.output.unwrap_or(0).saturating_add(thoughts));
        usage.reasoning = Some(thoughts);
    }
    if let (Some(output), Some(reasoning @ 1..)) =
        (usage.output, usage.reasoning.filter(|_| thoughts.is_none()))
    {
        let with_reasoning = output.saturating_add(reasoning);
        let is_beside = total.is_some() && total == usage.input.and_then(|n| n.checked_add(with_reasoning));
        if is_beside || reasoning > output {
            usage.output = Some(with_reasoning);
        }
    }
    usage.input = usage.input.or(counted.input).or(billed.input);
    usage.output = usage.output.or(counted.output).or(billed.output);
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_counts_cached_input_and_reasoning_output_in() {
        let usage = |input, output, cached, cache_written, reasoning| Usage {
            input,
            output,
            cached,
            cache_written,
            reasoning,
        };
        for (text, want) in [
            (
                r#"{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}"#,
                usage(Some(9), Some(3), None, None, None),
            ),
            (
                r#"{"prompt_tokens":9,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":2}}"#,
                usage(Some(9), Some(3), Some(4), None, Some(2)),
            ),
            (
                r#"{"prompt_tokens":9,"prompt_cache_hit_tokens":4,"completion_tokens":1}"#,
                usage(Some(9), Some(1), Some(4), None, None),
            ),
            (
                r#"{"input_tokens":5,"cache_creation_input_tokens":7,"cache_read_input_tokens":100,"output_tokens":2}"#,
                usage(Some(112), Some(2), Some(100), Some(7), None),
            ),
            (
                r#"{"promptTokenCount":4,"candidatesTokenCount":2,"thoughtsTokenCount":30,"totalTokenCount":36}"#,
                usage(Some(4), Some(32), None, None, Some(30)),
            ),
            (
                r#"{"prompt_tokens":112,"completion_tokens":3,"cache_creation_input_tokens":7,"cache_read_input_tokens":100}"#,
                usage(Some(112), Some(3), Some(100), Some(7), None),
            ),
            (
                r#"{"input_tokens":5,"output_tokens":9,"output_tokens_details":{"thinking_tokens":4}}"#,
                usage(Some(5), Some(9), None, None, Some(4)),
            ),
            (
                r#"{"cacheReadInputTokens":100,"cacheWriteInputTokens":7,"inputTokens":5,"outputTokens":2,"serverToolUsage":{},"totalTokens":114}"#,
                usage(Some(112), Some(2), Some(100), Some(7), None),
            ),
            (
                r#"{"billed_units":{"input_tokens":1,"output_tokens":2},"cached_tokens":16,"tokens":{"input_tokens":30,"output_tokens":4}}"#,
                usage(Some(30), Some(4), Some(16), None, None),
            ),
            (
                r#"{"billed_units":{"input_tokens":1,"output_tokens":2}}"#,
                usage(Some(1), Some(2), None, None, None),
            ),
            (
                r#"{"prompt_tokens":493,"completion_tokens":35,"total_tokens":582,"completion_tokens_details":{"reasoning_tokens":54}}"#,
                usage(Some(493), Some(89), None, None, Some(54)),
            ),
            (
                r#"{"prompt_tokens":493,"completion_tokens":89,"total_tokens":582,"completion_tokens_details":{"reasoning_tokens":54}}"#,
                usage(Some(493), Some(89), None, None, Some(54)),
            ),
            (
                r#"{"prompt_tokens":526,"completion_tokens":90,"total_tokens":636,"completion_tokens_details":{"reasoning_tokens":20}}"#,
                usage(Some(526), Some(110), None, None, Some(20)),
            ),
            (
                r#"{"prompt_tokens":28,"completion_tokens":9,"total_tokens":37,"completion_tokens_details":{"reasoning_tokens":69}}"#,
                usage(Some(28), Some(78), None, None, Some(69)),
            ),
            (r#""lots""#, Usage::default()),
            (
                r#"{"prompt_tokens":null,"completion_tokens":"x","prompt_tokens_details":null}"#,
                Usage::default(),
            ),
            (
                r#"{"prompt_tokens":18446744073709551615,"cache_read_input_tokens":9,"input_tokens":18446744073709551615}"#,
                usage(Some(u64::MAX), None, Some(9), None, None),
            ),
        ] {
            assert_eq!(read(&mut Scan::new(text.as_bytes())), Ok(want), "{text}");
        }
    }
}
