//! The keys of `[[route]]` about who may have which channel.

use super::super::forms;
use super::super::model::ChannelRoles;
use super::{Field, Key, Preset, RouteDraft, push_new};

pub(super) const CHANNELS: Key<RouteDraft> = Key {
    name: "channels",
    field: Field::List {
        form: "a channel, or a list of channels, a `*` at the end for all that begins so",
        single: true,
        most: 1024,
        store: |r, text| push_new(&mut r.broadcast.channels, forms::channel_pattern(text)?, text),
    },
    default: Preset::Absent("all channels of the feeds"),
    owners: &["broadcast"],
    words: "The channels that a client may take.",
    note: "A client takes them by the path, by the query (`?channel=a&channel=b*`), or by messages. `{user}` stands \
           for who the client is, `{claim.x}` for what is said of it (`auth`): `user.{user}` is another channel for \
           each. A name that has a `*` in it, or the character that follows its place, has none of these channels.",
    example: "[\"ticker\", \"news.*\", \"user.{user}\"]",
    see: &["path", "subscribe", "channel_roles"],
};

pub(super) const CHANNEL_ROLES: Key<RouteDraft> = Key {
    name: "channel_roles",
    field: Field::Tables {
        form: "a list of tables, { channels = [\"admin.*\"], roles = [\"admin\"] }",
        most: 64,
        begin: |r| r.broadcast.channel_roles.push(ChannelRoles::default()),
        keys: &ROLES,
    },
    default: Preset::Absent("no channel needs a role of its own"),
    owners: &["broadcast"],
    words: "Channels for which a client must have a role.",
    note: "A client that asks for a prefix needs the roles of all that would come with it: `*` those of `admin.*`. \
           `channels` says which there are at all.",
    example: "[{ channels = [\"admin.*\"], roles = [\"admin\"] }]",
    see: &["channels", "channel_roles.channels", "channel_roles.roles"],
};

static ROLES: [Key<RouteDraft>; 2] = [
    Key {
        name: "channels",
        field: Field::List {
            form: "a list of channels, a `*` at the end for all that begins so",
            single: false,
            most: 1024,
            store: |r, text| push_new(&mut last(r).channels, forms::channel(text)?, text),
        },
        default: Preset::Required,
        words: "The channels that need a role.",
        example: "[\"admin.*\"]",
        ..Key::PLAIN
    },
    Key {
        name: "roles",
        field: Field::List {
            form: "a list of roles, each of 1 to 255 bytes without control characters",
            single: false,
            most: 64,
            store: |r, text| push_new(&mut last(r).roles, forms::role(text)?, text),
        },
        default: Preset::Required,
        words: "The roles of which a client must have one.",
        example: "[\"admin\"]",
        ..Key::PLAIN
    },
];

/// The table that is being read.
fn last(route: &mut RouteDraft) -> &mut ChannelRoles {
    route.broadcast.channel_roles.last_mut().expect("an item has begun before its keys are stored")
}
