//! An id per noun: a UUID that says in its type what it identifies.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }
    )*};
}

ids! {
    /// A person or a machine that can be given access. Never reused.
    AccountId;
    /// An add-on, from the moment it was asked for; never reused.
    AddonId;
    /// An add-on's place in an app.
    AttachmentId;
    /// An app, for its whole life; its name can change.
    AppId;
    /// A pipeline's connection to its repository at a forge; another one is another id.
    ForgeConnectionId;
    /// A delivery of a forge's webhook, as we keep it.
    ForgeDeliveryId;
    /// An app on its way to another owner.
    AppTransferId;
    /// Somebody's place in a team.
    TeamMemberId;
    /// The making of an app from a source and its app.json.
    AppSetupId;
    /// A build, from its first line of output on.
    BuildId;
    /// A collaborator's place in an app.
    CollaboratorId;
    /// A domain of an app.
    DomainId;
    /// One running (or once running) process, through all its states; a restart makes a new one.
    DynoId;
    /// A process type's row in an app's formation.
    FormationId;
    /// An SSH key of an account.
    KeyId;
    /// An app's place in a pipeline.
    CouplingId;
    /// An entry of the ledger.
    LedgerId;
    /// What somebody is to be told.
    NoticeId;
    /// An operation of the journal.
    OperationId;
    /// A pipeline, for its whole life; its name can change.
    PipelineId;
    /// A product: pipelines that are promoted together.
    ProductId;
    /// A promotion.
    PromotionId;
    /// One app that a promotion leads to.
    PromotionTargetId;
    /// A release of an app.
    ReleaseId;
    /// A review app, through all its states; its app is made anew when it failed.
    ReviewAppId;
    /// A sign-off of a commit for a stage; another one in its place is another id.
    SignOffId;
    /// A runnable result of a build.
    SlugId;
    /// A source blob that was or will be uploaded.
    SourceId;
    /// An authorization: one token with its scope and expiry.
    TokenId;
    /// A deploy that a trigger asked for.
    TriggeredDeployId;
    /// A trigger of an app: which refs deploy it.
    TriggerId;
    /// A backup, restore or copy of a database.
    TransferId;
    /// An event on its way to a webhook.
    WebhookDeliveryId;
    /// Something that has changed, for webhooks.
    WebhookEventId;
    /// A webhook of an app.
    WebhookId;
}
