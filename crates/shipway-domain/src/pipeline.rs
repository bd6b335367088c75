//! Pipelines: apps in stages, through which one build is carried.

use crate::lifecycle::states;
use crate::names::{NameError, check_label, name};

name! {
    /// A pipeline's name: 3 to 30 characters, `a-z`, `0-9` and `-`, starting with a letter.
    /// Source: Heroku Platform API, "Pipeline".
    PipelineName, |s| {
        check_label("pipeline name", s, 3..=30)?;
        Ok(s.to_string())
    }
}

name! {
    /// A product's name: like a pipeline's.
    ProductName, |s| {
        check_label("product name", s, 3..=30)?;
        Ok(s.to_string())
    }
}

name! {
    /// What a team calls an app in its pipeline: 1 to 50 characters, none of them a control character.
    DisplayName, |s| {
        let s = s.trim();
        if s.is_empty() || s.chars().count() > 50 {
            return Err(NameError::new("display name", s, "must have between 1 and 50 characters"));
        }
        if s.chars().any(char::is_control) {
            return Err(NameError::new("display name", s, "must not contain control characters"));
        }
        Ok(s.to_string())
    }
}

states! {
    /// Where in a pipeline an app stands, in the order in which a build travels.
    /// Source: Heroku Platform API, "Pipeline Coupling".
    #[derive(PartialOrd, Ord)]
    Stage {
        /// Runs of a test suite.
        Test = "test",
        /// Apps of pull requests.
        Review = "review",
        /// Shared apps that anything may be tried on.
        Development = "development",
        /// What is about to go live.
        Staging = "staging",
        /// What visitors use.
        Production = "production",
    }
}

states! {
    /// A promotion's state. Source: Heroku Platform API, "Pipeline Promotion".
    PromotionStatus {
        /// At least one target has not ended.
        Pending = "pending",
        /// All have ended, well or not.
        Completed = "completed",
    }
}

states! {
    /// The state of one target of a promotion. Source: Heroku Platform API, "Pipeline Promotion Target".
    TargetStatus {
        /// Its operation waits or runs.
        Pending = "pending",
        /// It runs what the source runs.
        Succeeded = "succeeded",
        /// It runs what it ran before.
        Failed = "failed",
    }
}

impl Stage {
    /// Reads a stage's name as people write it. Errors: what the stages are.
    pub fn parse(s: &str) -> Result<Self, NameError> {
        Self::from_text(s)
            .ok_or_else(|| NameError::new("stage", s, "must be test, review, development, staging or production"))
    }

    /// Reads a stage as people type it: `dev` and `prod` too.
    pub fn from_people(s: &str) -> Option<Self> {
        match s {
            "dev" => Some(Self::Development),
            "prod" => Some(Self::Production),
            other => Self::from_text(other),
        }
    }

    /// Whether its apps come and go by themselves, so that nothing is promoted from or to them.
    pub fn is_made_by_the_platform(self) -> bool {
        matches!(self, Self::Test | Self::Review)
    }

    /// The stages that a promotion from here to `to` leaves out.
    pub fn skipped(self, to: Self) -> Vec<Self> {
        Self::ALL.into_iter().filter(|s| *s > self && *s < to).collect()
    }

    /// Where an app of this stage promotes to; `None` from review apps, test runs and the last stage.
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Development => Some(Self::Staging),
            Self::Staging => Some(Self::Production),
            Self::Test | Self::Review | Self::Production => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_allowed() {
        let check = |name: &str, expected: &str| {
            let got = PipelineName::parse(name).map_or_else(|e| e.to_string(), |n| n.to_string());
            assert_eq!(got, expected);
        };
        check("storefront", "storefront");
        check("a-", "pipeline name \"a-\" must have between 3 and 30 characters");
        check("Shop", "pipeline name \"Shop\" may only contain lowercase letters, digits and dashes");
        check("1st", "pipeline name \"1st\" must start with a letter");
        assert_eq!(DisplayName::parse("  QA (Ida) ").unwrap().as_str(), "QA (Ida)");
        assert!(DisplayName::parse("a\u{1b}[2J").is_err());
    }

    #[test]
    fn stages_lead_to_production() {
        let next = Stage::ALL.map(|s| s.next().map_or("-", Stage::as_str));
        assert_eq!(next, ["-", "-", "staging", "production", "-"]);
        for stage in Stage::ALL {
            assert_eq!(Stage::parse(stage.as_str()), Ok(stage));
        }
        assert!(Stage::parse("prod").unwrap_err().to_string().contains("development, staging or production"));
        assert_eq!(Stage::Development.skipped(Stage::Production), [Stage::Staging]);
        assert_eq!(Stage::Staging.skipped(Stage::Production), []);
        assert_eq!(Stage::Production.skipped(Stage::Staging), []);
        assert_eq!(Stage::from_people("prod"), Some(Stage::Production));
    }
}
