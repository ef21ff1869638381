//! What a model that is not on the CPU needs beside it: soft prompts and LoRA matrices of its own.

use std::sync::{Arc, Weak};

use candle_core::{Device, Result, Tensor};

use super::byte_lru::ByteLru;
use attune_model::input::{by_array, ForwardInput, LearnedRows, SoftRow};
use attune_model::lora::LoraSet;
use attune_model::placement::Placement;

/// Brings what passes refer to onto the model's device, and keeps it there.
#[derive(Debug)]
pub struct DeviceSide {
    placement: Placement,
    /// Width of a row.
    width: usize,
    /// Soft prompts by the digest of their rows, which is what (version, user) come down to: (n, hidden)
    /// each.
    prompts: ByteLru<[u8; 32], Tensor>,
    /// LoRA sets that sequences hold, and their twins on the device.
    loras: Vec<(Weak<LoraSet>, Arc<LoraSet>)>,
}

impl DeviceSide {
    /// For a model that is placed so, with rows of `width`; soft prompts take at most `prompt_bytes`.
    pub fn new(placement: Placement, width: usize, prompt_bytes: usize) -> Self {
        Self {
            placement,
            width,
            prompts: ByteLru::new(prompt_bytes),
            loras: Vec::new(),
        }
    }

    /// The same pass, with everything it refers to on the device.
    ///
    /// # Errors
    /// No memory on the device.
    pub fn bring(&mut self, input: &ForwardInput) -> Result<ForwardInput> {
        let mut input = input.clone();
        for span in &mut input.spans {
            if let Some(lora) = &span.lora {
                span.lora = Some(self.twin(lora)?);
            }
        }
        if !input.soft_rows.is_empty() {
            let soft_rows = std::mem::take(&mut input.soft_rows);
            input.learned_rows = Some(self.shown(&soft_rows)?);
        }
        Ok(input)
    }

    /// Keeps no soft prompt any more. Those of sequences that go on are uploaded again.
    pub fn forget_prompts(&mut self) {
        self.prompts.clear();
    }

    /// Bytes of soft prompts that are kept.
    pub fn prompt_bytes(&self) -> usize {
        self.prompts.bytes()
    }

    fn twin(&mut self, lora: &Arc<LoraSet>) -> Result<Arc<LoraSet>> {
        let is_it = |(known, _): &&(Weak<LoraSet>, _)| std::ptr::eq(known.as_ptr(), &**lora);
        if let Some((_, twin)) = self.loras.iter().find(is_it) {
            return Ok(twin.clone());
        }
        // A version that no request holds any more leaves the device with it.
        self.loras.retain(|(known, _)| known.strong_count() > 0);
        let twin = lora.placed(&self.placement)?;
        self.loras.push((Arc::downgrade(lora), twin.clone()));
        Ok(twin)
    }

    /// The embeddings that `soft_rows` show, each soft prompt once.
    fn shown(&mut self, soft_rows: &[SoftRow]) -> Result<LearnedRows> {
        let (prompts, shown_at) = by_array(soft_rows, self.width);
        let tables = prompts.into_iter().map(|soft| self.table(soft));
        let tables = tables.collect::<Result<Vec<_>>>()?;
        Ok(LearnedRows {
            embeddings: Tensor::cat(&tables, 0)?,
            shown_at,
        })
    }

    fn table(&mut self, soft: &SoftRow) -> Result<Tensor> {
        let (placement, width) = (&self.placement, self.width);
        let upload = || {
            let shape = (soft.embeddings.len() / width, width);
            let table = Tensor::from_slice(&soft.embeddings, shape, &Device::Cpu)?;
            table
                .to_dtype(placement.dtype)?
                .to_device(&placement.device)
        };
        let bytes = soft.embeddings.len() * placement.dtype.size_in_bytes();
        match &soft.digest {
            Some(digest) => self.prompts.get_or_make(digest, bytes, upload),
            None => upload(),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use attune_model::input::SequenceSpan;

    fn prompt(seed: f32) -> Arc<[f32]> {
        (0..6).map(|i| seed + i as f32).collect()
    }

    fn soft(row: usize, embeddings: &Arc<[f32]>, index: usize, digest: u8) -> SoftRow {
        SoftRow {
            row,
            embeddings: embeddings.clone(),
            index,
            digest: Some([digest; 32]),
        }
    }

    #[test]
    fn each_soft_prompt_is_uploaded_once_and_shown_where_it_stands() {
        let placement = Placement::dense(Device::Cpu, DType::F32);
        // Room for two prompts of 6 f32.
        let mut side = DeviceSide::new(placement, 3, 48);
        let (a, b) = (prompt(0.0), prompt(10.0));
        let input = ForwardInput {
            token_ids: vec![0; 5],
            soft_rows: vec![
                soft(1, &a, 0, 1),
                soft(2, &a, 1, 1),
                soft(3, &b, 0, 2),
                soft(4, &b, 1, 2),
            ],
            ..ForwardInput::default()
        };
        let brought = side.bring(&input).unwrap();
        assert!(brought.soft_rows.is_empty());
        let shown = brought.learned_rows.unwrap();
        assert_eq!(shown.shown_at, [(1, 0), (2, 1), (3, 2), (4, 3)]);
        let rows = shown.embeddings.to_vec2::<f32>().unwrap();
        assert_eq!(rows[1], [3.0, 4.0, 5.0]);
        assert_eq!(rows[2], [10.0, 11.0, 12.0]);
        assert_eq!(side.prompt_bytes(), 48);
        // The same rows in another request are found by what they are, not by where.
        let again = ForwardInput {
            token_ids: vec![0; 2],
            soft_rows: vec![soft(0, &prompt(99.0), 1, 2)],
            ..ForwardInput::default()
        };
        let shown = side.bring(&again).unwrap().learned_rows.unwrap();
        assert_eq!(
            shown.embeddings.to_vec2::<f32>().unwrap()[1],
            [13.0, 14.0, 15.0]
        );
        assert_eq!(side.prompt_bytes(), 48);
        side.forget_prompts();
        assert_eq!(side.prompt_bytes(), 0);
        let shown = side.bring(&again).unwrap().learned_rows.unwrap();
        assert_eq!(
            shown.embeddings.to_vec2::<f32>().unwrap()[1],
            [102.0, 103.0, 104.0],
            "of a digest that is not known any more, the rows are what the pass says"
        );
    }

    #[test]
    fn a_version_has_one_twin_for_as_long_as_somebody_holds_it() {
        let mut side = DeviceSide::new(Placement::dense(Device::Cpu, DType::F16), 3, 0);
        let sets: Vec<_> = (0..2).map(|_| Arc::new(LoraSet::default())).collect();
        let input = |lora: &Arc<LoraSet>| ForwardInput {
            token_ids: vec![0],
            spans: vec![SequenceSpan {
                rows: 0..1,
                past: 0,
                block_table: Arc::from([0]),
                lora: Some(lora.clone()),
            }],
            ..ForwardInput::default()
        };
        let mut twin = |lora: &Arc<LoraSet>| {
            let brought = side.bring(&input(lora)).unwrap();
            let twin = brought.spans[0].lora.clone().unwrap();
            (twin, side.loras.len())
        };
        let (first, _) = twin(&sets[0]);
        let (second, n) = twin(&sets[0]);
        assert!(Arc::ptr_eq(&first, &second) && n == 1);
        assert_eq!(twin(&sets[1]).1, 2);
        drop(sets);
        let last = Arc::new(LoraSet::default());
        assert_eq!(twin(&last).1, 1);
    }
}
