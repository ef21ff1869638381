//! What makes a positive answer a good one (2507.02834, section 2.2 of the notes): that the policy might have
//! said it, and that it makes the right answer likely.

use super::prompts;
use crate::encode::Encoder;
use crate::evaluate::Signals;
use crate::pack::Completion;
use crate::policy::Policy;
use crate::task::{final_answer, Task};
use crate::TrainError;

/// The texts of one task.
#[derive(Debug)]
pub struct Texts<'a> {
    /// The task.
    pub task: &'a Task,
    /// The user row of who asks; 0 for who has none.
    pub row: usize,
    /// What the policy answered.
    pub own: &'a str,
    /// What it explained with the answer shown, as an answer to the plain question.
    pub explanation: &'a str,
}

/// A text as ids, and which of them count.
struct Read {
    row: usize,
    prompt: Vec<u32>,
    response: Vec<u32>,
    kept: Vec<bool>,
}

/// Measures `texts` under `policy`.
///
/// # Errors
/// A text that cannot be encoded; a failure of the tensor library.
pub fn measure(
    policy: &Policy,
    encoder: &Encoder,
    texts: &[Texts],
    pack_rows: usize,
) -> Result<Signals, TrainError> {
    let mean = |read: Vec<Read>, by_token: bool| -> Result<Option<f64>, TrainError> {
        let kept = |read: &Read| read.kept.iter().filter(|k| **k).count();
        // What the model was not made for says nothing about it.
        let context = policy.decoder.config().max_positions;
        let rows = |r: &Read| policy.prefix.n_user_tokens + 1 + r.prompt.len() + r.response.len();
        let counted = read
            .into_iter()
            .filter(|r| kept(r) > 0 && rows(r) <= context);
        let counted: Vec<Read> = counted.collect();
        let sums = sums(policy, &counted, pack_rows)?;
        let tokens: usize = counted.iter().map(kept).sum();
        let by = if by_token { tokens } else { counted.len() };
        Ok((by > 0).then(|| sums.iter().sum::<f64>() / by as f64))
    };
    let whole = |of: fn(&Texts) -> Option<String>| -> Result<_, TrainError> {
        let read = texts.iter().filter_map(|t| Some((t, of(t)?)));
        let read: Result<Vec<Read>, _> = read.map(|(t, text)| reply(encoder, t, &text)).collect();
        let nll = mean(read?, true)?;
        Ok(nll.map(|mean| -mean))
    };
    let after = |of: fn(&Texts) -> Option<String>| -> Result<_, TrainError> {
        let read = texts.iter().filter_map(|t| Some((t, of(t)?)));
        let read: Result<Vec<Read>, _> = read
            .map(|(t, text)| answer_after(encoder, t, &text))
            .collect();
        mean(read?, false)
    };
    let own = |t: &Texts| Some(t.own.to_owned());
    let explanation = |t: &Texts| Some(t.explanation.to_owned());
    let expert = |t: &Texts| t.task.solution.clone();
    Ok(Signals {
        tasks: texts.len(),
        nll_own: whole(own)?,
        nll_explanation: whole(explanation)?,
        nll_expert: whole(expert)?,
        answer_after_own: after(own)?,
        answer_after_explanation: after(explanation)?,
        answer_after_expert: after(expert)?,
    })
}

impl Read {
    fn completion(&self, policy: &Policy) -> Completion<'_> {
        Completion {
            user: policy.user_model.as_ref().map(|_| self.row),
            prompt: &self.prompt,
            response: &self.response,
            kept: Some(&self.kept),
        }
    }
}

fn reply(encoder: &Encoder, of: &Texts, text: &str) -> Result<Read, TrainError> {
    let ids = encoder.question_and_reply(&prompts::plain(of.task), text);
    let [prompt, response] = ids?;
    let kept = vec![true; response.len()];
    Ok(Read {
        row: of.row,
        prompt,
        response,
        kept,
    })
}

/// The way of `text` without its answer, then the right one; only its tokens count.
fn answer_after(encoder: &Encoder, of: &Texts, text: &str) -> Result<Read, TrainError> {
    let way = format!("{}\nThe answer is", final_answer::before(text));
    let whole = format!("{way} {}.", prompts::shown(of.task));
    let (before, mut read) = (reply(encoder, of, &way)?, reply(encoder, of, &whole)?);
    let both = before.response.iter().zip(&read.response);
    let shared = both.take_while(|(a, b)| a == b).count();
    read.kept[..shared].fill(false);
    Ok(read)
}

fn sums(policy: &Policy, read: &[Read], pack_rows: usize) -> Result<Vec<f64>, TrainError> {
    let mut sums = Vec::new();
    let completions: Vec<Completion> = read.iter().map(|r| r.completion(policy)).collect();
    for (_, pack) in policy.packs(&completions, pack_rows, |c| *c) {
        sums.extend(policy.log_probs(&pack)?);
    }
    Ok(sums)
}
