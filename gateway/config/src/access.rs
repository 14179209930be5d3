//! `[application]`: what clients may do.

use super::build::Builder;
use gateway_core::access::{PushOperations, RoomRules};
use gateway_core::message::ROOMS_SIZE_MAX;
use gateway_proto::auth::{KEY_SIZE_MAX, PLATFORM_SIZE_MAX, ROOM_SIZE_MAX, TOKEN_SIZE_MAX, UID_SIZE_MAX};

/// Default of `limits.auth_body_size_max`, in bytes.
pub(super) const AUTH_BODY_SIZE: usize = 12_288;

/// Largest Auth body without its token, in bytes, where nothing is escaped and nothing is resumed:
/// its texts, a number of up to 20 digits and 64 operations of up to 11 with what stands between
/// them, and the names.
const BESIDE_TOKEN: usize =
    KEY_SIZE_MAX + UID_SIZE_MAX + ROOM_SIZE_MAX + PLATFORM_SIZE_MAX + 20 + 64 * 12 + 256;

const _: () =
    assert!(TOKEN_SIZE_MAX + BESIDE_TOKEN <= AUTH_BODY_SIZE, "the longest token fits an Auth frame");
const _: () =
    assert!(ROOMS_SIZE_MAX < TOKEN_SIZE_MAX / 4 * 3, "a token has room for its list of rooms, in base64");

impl Builder<'_> {
    pub(super) fn client_push_operations(&mut self) -> PushOperations {
        let path = "application.client_push_operations";
        PushOperations::parse(&self.values.texts(path)).unwrap_or_else(|advice| {
            self.complain(path, advice);
            PushOperations::default()
        })
    }

    pub(super) fn room_access(&mut self) -> RoomRules {
        let path = "application.room_access";
        let rules = RoomRules::parse(&self.values.texts(path)).unwrap_or_else(|advice| {
            self.complain(path, advice);
            RoomRules::default()
        });
        let has_tokens = self.values.text("auth.mode") == "jwt";
        if rules.uses_claims() && !has_tokens {
            let closed = "application.room_access asks for a claim, which only tokens bring: with auth.mode = \"none\" these rooms are closed";
            self.warnings.push(closed.into());
        }
        if rules.uses_claims() && self.values.text("auth.rooms_claim").is_empty() {
            self.complain(
                "auth.rooms_claim",
                "expected the name of the claim that application.room_access asks for",
            );
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn the_schema_has_the_default_that_fits_a_token() {
        let key = schema::find("limits.auth_body_size_max").unwrap();
        assert_eq!(key.default, AUTH_BODY_SIZE.to_string());
    }
}
