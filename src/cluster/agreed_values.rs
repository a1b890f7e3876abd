//! Numbers on which the nodes of a cluster agree, and which only increase.

use super::config::NodeConfig;
use super::shared_log::LogError;
use async_nats::jetstream::Context;
use async_nats::jetstream::kv;
use async_nats::jetstream::stream::StorageType;

/// The entries before this offset that erasures and expiries remove are on no server any more.
pub(super) const ERASED_THROUGH: &str = "erased-through";

/// The newest version of the message form that all nodes read.
pub(super) const MESSAGE_VERSION: &str = "message-version";

/// Number of attempts to raise a value while other nodes raise it.
const RAISE_ATTEMPTS: u32 = 8;

/// The agreed numbers.
#[derive(Debug)]
pub(super) struct AgreedValues {
    bucket: kv::Store,
}

fn unreachable(error: &dyn std::error::Error) -> LogError {
    LogError::Unreachable(error.to_string())
}

impl AgreedValues {
    /// Opens the bucket of the numbers. Creates it if it does not exist.
    ///
    /// # Errors
    /// [`LogError::Unreachable`] if the servers do not answer.
    pub(super) async fn open(context: &Context, config: &NodeConfig) -> Result<Self, LogError> {
        let settings = kv::Config {
            bucket: config.agreed_bucket(),
            description: "numbers on which the nodes of a Sequor cluster agree".to_owned(),
            history: 1,
            storage: StorageType::File,
            num_replicas: config.replicas,
            ..kv::Config::default()
        };
        let bucket = match context.get_key_value(config.agreed_bucket()).await {
            Ok(bucket) => bucket,
            Err(_) => context.create_key_value(settings).await.map_err(|error| unreachable(&error))?,
        };
        Ok(Self { bucket })
    }

    /// A number; 0 if no node has set it.
    ///
    /// # Errors
    /// [`LogError::Unreachable`] if the bucket cannot be read.
    pub(super) async fn get(&self, key: &str) -> Result<u64, LogError> {
        Ok(self.read(key).await?.0)
    }

    async fn read(&self, key: &str) -> Result<(u64, u64), LogError> {
        let entry = self.bucket.entry(key).await.map_err(|error| unreachable(&error))?;
        let Some(entry) = entry else { return Ok((0, 0)) };
        let number = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok((number, entry.revision))
    }

    /// Raises a number to at least `number`.
    ///
    /// # Errors
    /// [`LogError::Unreachable`] if the bucket cannot be written.
    pub(super) async fn raise(&self, key: &str, number: u64) -> Result<(), LogError> {
        let mut last = None;
        for _ in 0..RAISE_ATTEMPTS {
            let (found, revision) = self.read(key).await?;
            if found >= number {
                return Ok(());
            }
            match self.bucket.update(key, number.to_string().into(), revision).await {
                Ok(_) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| LogError::Unreachable(String::new()), |error| unreachable(&error)))
    }
}
