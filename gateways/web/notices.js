// The lines between messages: what happened to the group, in one sentence made of words and names.

function added(event, name, oneself) {
  return event.actor === event.data.user_id ? [oneself] : ["added ", name(event.data.user_id)];
}

const JOINED = {
  created: (event, name) => added(event, name, "opened the group"),
  added: (event, name) => added(event, name, "was added"),
  joined: () => ["joined"],
  invite: () => ["joined by an invite"],
  approved: (event, name) => ["let in ", name(event.data.user_id)],
};

const FIELDS = {
  name: "the name",
  description: "the description",
  announcement: "the announcement",
  avatar: "the picture",
  join: "who may join",
  max_members: "the member limit",
  history_visible: "who sees earlier messages",
  members_may_add: "who may add members",
  recall_window_s: "the recall window",
  edit_window_s: "the edit window",
};

function changedWords({ changes = {} }) {
  if (changes.name !== undefined && Object.keys(changes).length === 1)
    return ["renamed the group to ", { text: changes.name }];
  if (changes.announcement && Object.keys(changes).length === 1)
    return ["announced: ", { text: changes.announcement }];
  return [
    `changed ${Object.keys(changes)
      .map((field) => FIELDS[field] ?? field)
      .join(", ")}`,
  ];
}

const SENTENCES = {
  group_created: (event) => ["created the group ", { text: event.data.name }],
  group_changed: (event) => changedWords(event.data),
  group_dissolved: () => ["dissolved the group"],
  group_muted: () => ["muted the group"],
  group_unmuted: () => ["unmuted the group"],
  member_added: (event, name) => (JOINED[event.data.via] ?? JOINED.added)(event, name),
  member_removed: (event, name) => ["removed ", name(event.data.user_id)],
  member_left: () => ["left"],
  member_alias_changed: (event, name) =>
    event.data.alias
      ? ["set the alias of ", name(event.data.user_id), " to ", { text: event.data.alias }]
      : ["removed the alias of ", name(event.data.user_id)],
  member_muted: (event, name) => ["muted ", name(event.data.user_id)],
  member_unmuted: (event, name) => ["unmuted ", name(event.data.user_id)],
  role_changed: (event, name) => [
    "made ",
    name(event.data.user_id),
    event.data.role === "admin" ? " an admin" : " a member",
  ],
  owner_transferred: (event, name) => ["made ", name(event.data.to), " the owner"],
  direct_opened: () => ["opened this conversation"],
  message_pinned: (event) => ["pinned ", { text: "a message", seq: event.data.target }],
  friend_requested: () => ["asked to be friends"],
  friend_accepted: () => ["accepted the friend request"],
};

/** `[string | {text, seq?}]`: the words after the actor's name; the objects are names and other people's words. */
export function sentenceOf(event, nameOf) {
  const sentence = SENTENCES[event.type];
  return sentence ? sentence(event, (user) => ({ text: nameOf(user) })) : [event.type];
}
