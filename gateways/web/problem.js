// What went wrong, in the words of the contract: one class for refusals of both the REST interface and the socket.

/** Codes after which the same call, with the same key, is worth another try. */
const PASSING = new Set(["rate_limited", "overloaded", "unavailable", "outcome_unknown"]);

/** A refusal: `code`, `status`, `detail`, and `retry_after_ms` where the server names one. */
export class Problem extends Error {
  constructor({
    code = "unavailable",
    status = 0,
    title = "",
    detail = "",
    errors = [],
    retry_after_ms = null,
  } = {}) {
    super(detail || title || code);
    this.name = "Problem";
    this.code = code;
    this.status = status;
    this.errors = Array.isArray(errors) ? errors : [];
    this.retry_after_ms = retry_after_ms;
  }

  /** True when repeating the same call may succeed. */
  get passing() {
    return PASSING.has(this.code);
  }

  /** One sentence for people: the detail and the fields that it is about. */
  get sentence() {
    const fields = this.errors.map((error) => `${error.field}: ${error.message}`).join("; ");
    return fields && !this.message.includes(fields) ? `${this.message} (${fields})` : this.message;
  }
}

/** The line went away before the answer came: the write may or may not have happened. */
export class ConnectionLost extends Error {
  constructor(reason = "the connection was lost") {
    super(reason);
    this.name = "ConnectionLost";
  }
}
