//! Recommendations of a system without servers: lists that are computed from a data directory.

use futures_util::future::join_all;
use std::sync::Arc;

use crate::actors::system::System;
use crate::auth::KeyStore;
use crate::clock::Clock;
use crate::domain::{Consent, Recommendation};
use crate::http::schema::problem::Problem;
use crate::http::schema::query::{self, RecommendationQuery};
use crate::http::server::{ServerOptions, shared_state};
use crate::http::state::ApiState;
use crate::http::status::history::StatusSampler;
use crate::ingest::ValidationRules;
use crate::learner::RecommendationRequest;
use crate::settings::LiveSettings;

/// Recommends to users as `GET /v1/users/{user}/recommendations` does, without an impression: all
/// requests have the consent level `session`.
#[derive(Clone)]
pub struct LocalRecommendations {
    api: ApiState,
    query: RecommendationQuery,
}

impl LocalRecommendations {
    /// Recommendations of a running system for a placement. Without `limit`, the limit of the
    /// placement applies, or the default.
    #[must_use]
    pub fn new(
        system: System,
        rules: ValidationRules,
        options: &ServerOptions,
        live: LiveSettings,
        keys: KeyStore,
        placement: Option<String>,
        limit: Option<usize>,
    ) -> Self {
        let (sampler, _) = StatusSampler::new();
        let api = shared_state(system, rules, Clock::system(), options, Arc::new(live), &Arc::new(keys), sampler);
        let query =
            RecommendationQuery { limit, placement, consent: Some(Consent::Session), ..RecommendationQuery::default() };
        Self { api, query }
    }

    /// Recommends to users at one time. The results are in the order of the users.
    ///
    /// The sessions of all users are requested before the first list is computed, so one wait serves
    /// them all.
    pub async fn recommend_to_all(&self, users: &[String]) -> Vec<Result<Recommendation, Problem>> {
        let request = self.query.to_request(&self.api);
        join_all(users.iter().map(|user| self.recommend(user, &request))).await
    }

    /// Recommends to a user. Returns the problem with which the API would answer.
    async fn recommend(
        &self,
        user: &str,
        request: &Result<RecommendationRequest, Problem>,
    ) -> Result<Recommendation, Problem> {
        let user = query::validate_user_id(&self.api, user.to_owned())?;
        let request = request.as_ref().map_err(Clone::clone)?;
        Ok(self.api.recommendations.recommend_single_page(user, self.query.consent, request).await?)
    }
}
