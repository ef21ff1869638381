//! The decoder. One for every family: what differs is a flag of [`ModelConfig`].

use candle_core::{Device, Result, Tensor};

use super::attention::Attention;
use super::config::{Activation, ModelConfig, RopeScaling};
use super::error::ModelError;
use super::input::{ForwardInput, LearnedRows};
use super::kernels::gated::gated;
use super::kernels::paged_attention::AttentionShape;
use super::layers::{RmsNorm, Rope, RopeAngles};
use super::linear::{Linear, LinearFormat, LoraGroups};
use super::lora::Projection;
use super::weights::Weights;

/// A frozen decoder-only language model.
#[derive(Debug)]
pub struct Decoder {
    config: ModelConfig,
    /// (vocab, hidden), f32.
    embeddings: Tensor,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: Linear,
    rope: Rope,
    /// Of sliding-window layers, where it differs.
    local_rope: Option<Rope>,
}

/// What all blocks share during one pass.
#[derive(Debug)]
pub struct Pass<'a> {
    input: &'a ForwardInput,
    angles: RopeAngles,
    /// Of sliding-window layers, where they differ.
    local_angles: Option<RopeAngles>,
    lora: LoraGroups,
}

#[derive(Debug)]
struct Block {
    layer: usize,
    attention: AttentionShape,
    input_norm: RmsNorm,
    /// Gemma 3: after attention, before the residual.
    post_attention_norm: Option<RmsNorm>,
    pre_feed_forward_norm: RmsNorm,
    /// Gemma 3: after the feed-forward layer, before the residual.
    post_feed_forward_norm: Option<RmsNorm>,
    q_norm: Option<RmsNorm>,
    k_norm: Option<RmsNorm>,
    activation: Activation,
    /// In the order of [`Projection::ALL`].
    linear: [Linear; 7],
}

impl Decoder {
    /// Takes the model's tensors from `weights`; every tensor must be there, fit, and be used.
    ///
    /// # Errors
    /// The tensor that is missing, misshapen or left over.
    pub fn load(
        config: ModelConfig,
        mut weights: Weights,
        format: LinearFormat,
    ) -> std::result::Result<Self, ModelError> {
        config.validate()?;
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        let embeddings = weights.take("model.embed_tokens.weight", &[vocab, hidden])?;
        let blocks = (0..config.n_layers)
            .map(|layer| Block::load(&config, layer, &mut weights, format))
            .collect::<std::result::Result<_, _>>()?;
        let norm = norm(&config, &mut weights, "model.norm.weight", hidden)?;
        let head = if config.tied_embeddings {
            weights.ignore("lm_head.weight");
            embeddings.clone()
        } else {
            weights.take("lm_head.weight", &[vocab, hidden])?
        };
        weights.finish()?;
        let rope = Rope::new(config.rope_base, config.head_dim, &config.rope_scaling);
        let local_rope = config
            .local_rope_base
            .map(|base| Rope::new(base, config.head_dim, &RopeScaling::None));
        let head = Linear::new(head, None, format)?;
        Ok(Self {
            config,
            embeddings,
            blocks,
            norm,
            head,
            rope,
            local_rope,
        })
    }

    /// The shape and flags.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Raw embedding rows of `ids`, (ids, hidden) row-major: what a soft prompt would hold.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn embedding_rows(&self, ids: &[u32]) -> Result<Vec<f32>> {
        self.embeddings
            .embedding(&Tensor::new(ids, &Device::Cpu)?)?
            .flatten_all()?
            .to_vec1()
    }

    /// Logits of `input.logit_rows`, (rows, vocab), f32. Keys and values go through `attention`.
    ///
    /// # Errors
    /// A failure of the tensor library; ids are checked before they get here.
    pub fn forward(&self, input: &ForwardInput, attention: &mut dyn Attention) -> Result<Tensor> {
        let pass = self.pass(input)?;
        let mut x = self.embed(input)?;
        for layer in 0..self.blocks.len() {
            x = self.block(layer, &x, &pass, attention)?;
        }
        self.head.forward(&self.last_hidden(&x, input)?)
    }

    /// What the blocks share during one pass over `input`.
    ///
    /// # Errors
    /// No memory.
    pub fn pass<'a>(&self, input: &'a ForwardInput) -> Result<Pass<'a>> {
        let positions: Vec<usize> = input
            .spans
            .iter()
            .flat_map(|s| s.past..s.context_len())
            .collect();
        Ok(Pass {
            input,
            angles: self.rope.angles(&positions),
            local_angles: self.local_rope.as_ref().map(|r| r.angles(&positions)),
            lora: LoraGroups::new(&input.spans, input.token_ids.len())?,
        })
    }

    /// The rows that enter the first block, (rows, hidden).
    ///
    /// # Errors
    /// A failure of the tensor library.
    pub fn embed(&self, input: &ForwardInput) -> Result<Tensor> {
        let ids = Tensor::new(input.token_ids.as_slice(), &Device::Cpu)?;
        let mut x = self.embeddings.embedding(&ids)?;
        if !input.soft_rows.is_empty() {
            let (shape, width) = (x.shape().clone(), self.config.hidden_size);
            let mut values = x.flatten_all()?.to_vec1::<f32>()?;
            for soft in &input.soft_rows {
                values[soft.row * width..(soft.row + 1) * width]
                    .copy_from_slice(&soft.embeddings[soft.index * width..][..width]);
            }
            x = Tensor::from_vec(values, shape, &Device::Cpu)?;
        }
        if let Some(learned) = &input.learned_rows {
            x = show(x, learned)?;
        }
        match self.config.embedding_scale {
            Some(scale) => x.affine(scale, 0.0),
            None => Ok(x),
        }
    }

    /// One block: x (rows, hidden) in, the same out. Training runs blocks one by one, to keep or to
    /// recompute what is between them.
    ///
    /// # Errors
    /// A failure of the tensor library.
    pub fn block(
        &self,
        layer: usize,
        x: &Tensor,
        pass: &Pass,
        attention: &mut dyn Attention,
    ) -> Result<Tensor> {
        let block = &self.blocks[layer];
        let x = (x + block.mix(x, pass, attention)?)?;
        &x + block.feed_forward(&x, pass)?
    }

    /// log p(target) after each row of `hidden`, which comes from [`Self::last_hidden`]: (rows); `targets`
    /// has one token a row. Logits are divided by `temperature`.
    ///
    /// # Errors
    /// A target outside the vocabulary, or a model whose format has no gradient where one is wanted.
    pub fn log_probs(
        &self,
        hidden: &Tensor,
        targets: Vec<u32>,
        temperature: f64,
    ) -> Result<Tensor> {
        match temperature == 1.0 {
            true => self.head.log_probs(hidden, targets),
            false => {
                let hidden = hidden.affine(1.0 / temperature, 0.0)?;
                self.head.log_probs(&hidden, targets)
            }
        }
    }

    /// The normalised rows that enter the head, (`input.logit_rows`, hidden); x comes from the last block.
    ///
    /// # Errors
    /// A failure of the tensor library.
    pub fn last_hidden(&self, x: &Tensor, input: &ForwardInput) -> Result<Tensor> {
        let rows: Vec<u32> = input.logit_rows.iter().map(|r| *r as u32).collect();
        let x = x.index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?;
        self.norm.forward(&x)
    }
}

/// x with some rows replaced by learned embeddings.
fn show(x: Tensor, learned: &LearnedRows) -> Result<Tensor> {
    let n_rows = x.dim(0)?;
    let mut index: Vec<u32> = (0..n_rows as u32).collect();
    for (row, shown) in &learned.shown_at {
        index[*row] = (n_rows + shown) as u32;
    }
    Tensor::cat(&[&x, &learned.embeddings], 0)?.index_select(&Tensor::new(index, &Device::Cpu)?, 0)
}

impl Block {
    fn load(
        config: &ModelConfig,
        layer: usize,
        weights: &mut Weights,
        format: LinearFormat,
    ) -> std::result::Result<Self, ModelError> {
        let (hidden, head_dim) = (config.hidden_size, config.head_dim);
        let name = |rest: &str| format!("model.layers.{layer}.{rest}.weight");
        let mut linear = |projection: Projection| -> std::result::Result<Linear, ModelError> {
            let (n_out, n_in) = config.projection_shape(projection);
            let path = projection.path();
            let weight = weights.take(&name(path), &[n_out, n_in])?;
            let has_bias = config.qkv_bias
                && matches!(projection, Projection::Q | Projection::K | Projection::V);
            let bias = has_bias
                .then(|| weights.take(&format!("model.layers.{layer}.{path}.bias"), &[n_out]))
                .transpose()?;
            Linear::new(weight, bias, format).map_err(ModelError::from)
        };
        let linear = {
            let [q, k, v, o, gate, up, down] = Projection::ALL;
            [
                linear(q)?,
                linear(k)?,
                linear(v)?,
                linear(o)?,
                linear(gate)?,
                linear(up)?,
                linear(down)?,
            ]
        };
        let mut take = |rest: &str, width: usize| norm(config, weights, &name(rest), width);
        let input_norm = take("input_layernorm", hidden)?;
        let (post_attention_norm, pre_feed_forward_norm, post_feed_forward_norm) =
            if config.sandwich_norm {
                (
                    Some(take("post_attention_layernorm", hidden)?),
                    take("pre_feedforward_layernorm", hidden)?,
                    Some(take("post_feedforward_layernorm", hidden)?),
                )
            } else {
                (None, take("post_attention_layernorm", hidden)?, None)
            };
        let (q_norm, k_norm) = if config.qk_norm {
            let q = take("self_attn.q_norm", head_dim)?;
            (Some(q), Some(take("self_attn.k_norm", head_dim)?))
        } else {
            (None, None)
        };
        let attention = AttentionShape {
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim,
            scale: config.attention_scale as f32,
            window: config.sliding_window[layer],
        };
        Ok(Self {
            layer,
            attention,
            input_norm,
            post_attention_norm,
            pre_feed_forward_norm,
            post_feed_forward_norm,
            q_norm,
            k_norm,
            activation: config.activation,
            linear,
        })
    }

    fn project(&self, projection: Projection, x: &Tensor, lora: &LoraGroups) -> Result<Tensor> {
        // Projection's discriminants follow `Projection::ALL`.
        let y = self.linear[projection as usize].forward(x)?;
        lora.add_to(y, x, self.layer, projection)
    }

    /// Attention with its norms: what is added to the residual stream.
    fn mix(&self, x: &Tensor, pass: &Pass, attention: &mut dyn Attention) -> Result<Tensor> {
        let angles = match &pass.local_angles {
            Some(local) if self.attention.window.is_some() => local,
            _ => &pass.angles,
        };
        let x = self.input_norm.forward(x)?;
        let [q, k, v] = [Projection::Q, Projection::K, Projection::V]
            .map(|projection| self.project(projection, &x, &pass.lora));
        let (mut q, mut k, v) = (q?, k?, v?);
        if let (Some(q_norm), Some(k_norm)) = (&self.q_norm, &self.k_norm) {
            q = q_norm.forward_heads(&q, self.attention.head_dim)?;
            k = k_norm.forward_heads(&k, self.attention.head_dim)?;
        }
        let (q, k) = (angles.rotate(&q)?, angles.rotate(&k)?);
        let mixed = attention.attend(self.layer, self.attention, [&q, &k, &v], pass.input)?;
        let out = self.project(Projection::O, &mixed, &pass.lora)?;
        match &self.post_attention_norm {
            Some(norm) => norm.forward(&out),
            None => Ok(out),
        }
    }

    /// The feed-forward layer with its norms: what is added to the residual stream.
    fn feed_forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let x = self.pre_feed_forward_norm.forward(x)?;
        let gate = self.project(Projection::Gate, &x, &pass.lora)?;
        let up = self.project(Projection::Up, &x, &pass.lora)?;
        let gated = gated(&gate, &up, self.activation)?;
        let out = self.project(Projection::Down, &gated, &pass.lora)?;
        match &self.post_feed_forward_norm {
            Some(norm) => norm.forward(&out),
            None => Ok(out),
        }
    }
}

fn norm(
    config: &ModelConfig,
    weights: &mut Weights,
    name: &str,
    width: usize,
) -> std::result::Result<RmsNorm, ModelError> {
    let weight = weights.take(name, &[width])?;
    Ok(RmsNorm::new(weight, config.norm_eps, config.norm_plus_one)?)
}
