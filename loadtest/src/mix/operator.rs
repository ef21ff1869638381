//! The operator: installs bundles, and changes versions while people chat.

use std::collections::BTreeMap;
use std::convert::Infallible;

use rand::seq::IndexedRandom;
use rand::Rng;
use reqwest::Method;
use serde_json::{json, Value};

use super::client::Round;
use super::scenario::Mix;
use crate::http::{failure, Http};
use crate::outcome::{ErrorKind, Failure};
use crate::seeds::{rng, Purpose};

/// Share of people who get a canary.
const CANARY_PERCENT: f64 = 20.0;

/// Changes versions. Knows them by the names in their manifests, since a server may replace a version by one
/// that forgets somebody.
pub struct Operator<'a> {
    mix: &'a Mix,
    /// What the alias names for certain, once a change was acknowledged.
    certain: Option<String>,
    /// What it may name instead: the target of a change that was not answered.
    open: Option<String>,
    /// Changes that were acknowledged.
    pub changes: u64,
}

/// What the server has.
struct Versions {
    /// Version of each name.
    by_name: BTreeMap<String, String>,
    /// Names of what the alias names, names before, and tries.
    current: Option<String>,
    previous: Option<String>,
    canary: Option<String>,
}

impl<'a> Operator<'a> {
    /// For the scenario's alias.
    pub fn new(mix: &'a Mix) -> Self {
        Self {
            mix,
            certain: None,
            open: None,
            changes: 0,
        }
    }

    /// Installs the scenario's bundles and promotes the first.
    ///
    /// # Errors
    /// The server refuses one.
    pub async fn prepare(&mut self, http: &Http) -> Result<(), Failure> {
        for bundle in &self.mix.bundles {
            self.install(http, bundle).await?;
        }
        let versions = self.versions(http).await?;
        let first = versions.by_name.keys().next().cloned();
        match first {
            Some(name) => self.promote(http, &versions, &name).await,
            None => Ok(()),
        }
    }

    /// One change: most of the time a promotion; a rollback, a canary, or a version that goes and comes back.
    ///
    /// # Errors
    /// The server refuses it, or does not answer.
    async fn change(&mut self, http: &Http, rng: &mut impl Rng) -> Result<(), Failure> {
        let versions = self.versions(http).await?;
        let others: Vec<&String> = versions.by_name.keys().collect();
        let others: Vec<&String> = others
            .into_iter()
            .filter(|name| Some(*name) != versions.current.as_ref())
            .collect();
        let Some(other) = others.choose(rng).map(ToString::to_string) else {
            return Ok(());
        };
        match rng.random_range(0..6) {
            0 if versions.previous.is_some() => self.roll_back(http, &versions).await,
            1 => self.canary(http, &versions, &other).await,
            2 => self.replace(http, &versions).await,
            _ => self.promote(http, &versions, &other).await,
        }?;
        self.changes += 1;
        Ok(())
    }

    /// Changes versions as long as it is polled.
    pub async fn go_on(&mut self, round: &Round<'_>) -> Infallible {
        let mut rng = rng(self.mix.seed, Purpose::Change, round.number, 0);
        loop {
            tokio::time::sleep(self.mix.reload_every).await;
            if self.mix.bundles.len() > 1 {
                let changed = self.change(round.http, &mut rng).await;
                round.tally.borrow_mut().add("change", changed);
            }
        }
    }

    /// Whether the alias names what was acknowledged last, or what was asked for after that.
    ///
    /// # Errors
    /// It names something else; the server does not answer.
    pub async fn check(&mut self, http: &Http) -> Result<(), Failure> {
        let versions = self.versions(http).await?;
        let there = versions.current;
        if there != self.certain && (self.open.is_none() || there != self.open) {
            let problem = format!(
                "the alias names {there:?}; {:?} was acknowledged, {:?} asked for after it",
                self.certain, self.open
            );
            return Err(failure(ErrorKind::Body, problem));
        }
        self.certain = there;
        self.open = None;
        Ok(())
    }

    async fn install(&self, http: &Http, bundle: &str) -> Result<(), Failure> {
        let body = json!({"path": bundle});
        self.admin(http, Method::POST, "adapters", Some(&body))
            .await?;
        Ok(())
    }

    async fn promote(
        &mut self,
        http: &Http,
        versions: &Versions,
        name: &str,
    ) -> Result<(), Failure> {
        let body = json!({"version": versions.by_name.get(name)});
        self.moved(
            http,
            name,
            &format!("aliases/{}", self.mix.model),
            Some(&body),
        )
        .await
    }

    async fn roll_back(&mut self, http: &Http, versions: &Versions) -> Result<(), Failure> {
        let name = versions.previous.clone().unwrap_or_default();
        let path = format!("aliases/{}/rollback", self.mix.model);
        self.moved(http, &name, &path, None).await
    }

    async fn moved(
        &mut self,
        http: &Http,
        to: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(), Failure> {
        self.open = Some(to.to_owned());
        let alias = self.admin(http, Method::POST, path, body).await;
        if matches!(&alias, Err(failure) if matches!(failure.kind, ErrorKind::Http { .. })) {
            // Refused: nothing was changed.
            self.open = None;
        }
        alias?;
        self.certain = self.open.take();
        Ok(())
    }

    async fn canary(&self, http: &Http, versions: &Versions, other: &str) -> Result<(), Failure> {
        let path = format!("aliases/{}/canary", self.mix.model);
        if versions.canary.is_some() {
            self.admin(http, Method::DELETE, &path, None).await?;
        } else {
            let version = versions.by_name.get(other);
            let body = json!({"version": version, "percent": CANARY_PERCENT});
            self.admin(http, Method::POST, &path, Some(&body)).await?;
        }
        Ok(())
    }

    /// Retires what no alias names or tries, and installs every bundle again.
    async fn replace(&self, http: &Http, versions: &Versions) -> Result<(), Failure> {
        let in_use = [&versions.current, &versions.previous, &versions.canary];
        let unused = versions.by_name.iter();
        let mut unused = unused.filter(|(name, _)| !in_use.contains(&&Some((*name).clone())));
        if let Some((_, version)) = unused.next() {
            let path = format!("adapters/{version}");
            self.admin(http, Method::DELETE, &path, None).await?;
        }
        for bundle in &self.mix.bundles {
            self.install(http, bundle).await?;
        }
        Ok(())
    }

    async fn versions(&self, http: &Http) -> Result<Versions, Failure> {
        let adapters = self.admin(http, Method::GET, "adapters", None).await?;
        let aliases = self.admin(http, Method::GET, "aliases", None).await?;
        Ok(read(&adapters, &aliases, &self.mix.model))
    }

    async fn admin(
        &self,
        http: &Http,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let mut request = http.request(method, &format!("v1/admin/{path}"));
        if let Some(body) = body {
            request = request.json(body);
        }
        Ok(http.json(request, self.mix.timeout).await?.1)
    }
}

fn read(adapters: &Value, aliases: &Value, alias: &str) -> Versions {
    let list = |value: &Value| value["data"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut by_name = BTreeMap::new();
    let mut by_version = BTreeMap::new();
    for adapter in list(adapters) {
        if let (Some(name), Some(version)) = (text(&adapter["name"]), text(&adapter["version"])) {
            by_version.insert(version.clone(), name.clone());
            by_name.insert(name, version);
        }
    }
    let aliases = list(aliases);
    let of_alias = aliases.iter().find(|entry| entry["alias"] == alias);
    let of_alias = of_alias.cloned().unwrap_or(Value::Null);
    // A version without a name is told apart by itself.
    let named = |value: &Value| {
        let version = text(value)?;
        Some(by_version.get(&version).cloned().unwrap_or(version))
    };
    Versions {
        current: named(&of_alias["version"]),
        previous: named(&of_alias["previous"]),
        canary: named(&of_alias["canary"]["version"]),
        by_name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_known_by_their_names() {
        let adapters = json!({"data": [
            {"name": "a", "version": "1"}, {"name": "b", "version": "2"}, {"name": null, "version": "3"},
        ]});
        let aliases = json!({"data": [
            {"alias": "x", "version": "3"},
            {"alias": "attune", "version": "2", "previous": "3", "canary": null},
        ]});
        let versions = read(&adapters, &aliases, "attune");
        assert_eq!(versions.current.as_deref(), Some("b"));
        assert_eq!(versions.previous.as_deref(), Some("3"));
        assert_eq!(versions.canary, None);
        assert_eq!(versions.by_name.len(), 2);
        assert_eq!(
            read(&adapters, &json!({"data": []}), "attune").current,
            None
        );
    }
}
