//! Whether a version has the shape of the base model that it is said to be for.

use std::collections::BTreeMap;

use super::error::AdapterError;
use super::manifest::Manifest;
use super::plan::Plan;
use attune_model::config::ModelConfig;

/// A base model, as far as versions must fit it.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// What people call it.
    pub name: &'a str,
    /// Its shape.
    pub config: &'a ModelConfig,
}

impl Base<'_> {
    /// What `manifest` promises for this model, if tensors of these shapes are that.
    ///
    /// # Errors
    /// What a version of no model could be; [`AdapterError::Misfit`]: it is one of another model.
    pub fn plan(
        &self,
        manifest: &Manifest,
        shapes: &BTreeMap<&str, &[usize]>,
    ) -> Result<Plan, AdapterError> {
        let plan = |config| {
            let plan = Plan::new(manifest, config, shapes.keys().copied())?;
            plan.check(shapes).map(|()| plan)
        };
        plan(Some(self.config)).map_err(|error| match plan(None) {
            Ok(_) => self.misfit(error.to_string(), trained_on(manifest)),
            Err(_) => error,
        })
    }

    /// The error for a version that was trained on another model.
    pub fn misfit(&self, misfit: String, trained_on: Option<String>) -> AdapterError {
        let ModelConfig {
            family,
            n_layers,
            hidden_size,
            ..
        } = self.config;
        AdapterError::Misfit {
            base: format!(
                "{} ({family}, {n_layers} blocks of width {hidden_size})",
                self.name
            ),
            misfit,
            trained_on,
        }
    }
}

/// The model that an imported checkpoint named.
fn trained_on(manifest: &Manifest) -> Option<String> {
    let named = manifest.training.as_ref()?.get("base_model_name_or_path")?;
    named.as_str().map(str::to_owned)
}
