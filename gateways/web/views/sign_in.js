// The first page: log in or sign up.

import { html, useChat, useState } from "../html.js";
import { Field, Form, Tabs } from "./common.js";

export function SignIn() {
  const chat = useChat();
  const [mode, setMode] = useState("log_in");
  const isNew = mode === "sign_up";
  const submit = ({ user_id, password, name = "", stay }) => {
    const credentials = { user_id: user_id.trim().toLowerCase(), password, stay: stay === "on" };
    return isNew ? chat.signUp({ ...credentials, name: name.trim() }) : chat.logIn(credentials);
  };
  return html`<main class="sign-in">
    <div class="sheet">
      <h1><img src="favicon.svg" alt="" width="28" height="28" />Minutebook</h1>
      <p class="lead">Conversations, kept as minutes.</p>
      <${Tabs} label="Log in or sign up" chosen=${mode} onChoose=${setMode} tabs=${[
        ["log_in", "Log in"],
        ["sign_up", "Sign up"],
      ]} />
      <${Form} key=${mode} id="sign-in-form" onSubmit=${submit} label=${isNew ? "Create account" : "Log in"}>
        <${Field} label="User id" name="user_id" autocomplete="username" autocapitalize="none"
            spellcheck=${false} required
          autofocus maxlength="64" hint=${isNew ? "Lower-case letters, digits and _ . @ -" : null} />
        ${isNew && html`<${Field} label="Name" name="name" autocomplete="name" maxlength="128"
            hint="What others see; your user id if left empty" />`}
        <${Field} label="Password" name="password" type="password" required
          autocomplete=${isNew ? "new-password" : "current-password"}
              hint=${isNew ? "At least 8 characters" : null} />
        <label class="check"><input type="checkbox" name="stay" /> Stay signed in on this computer</label>
      <//>
    </div>
  </main>`;
}
