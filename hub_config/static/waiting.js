// The page of a start on its way: shows the hub's progress events as they come, and tries again for ever where none come.
const data = JSON.parse(document.getElementById("studiolo-waiting-data").textContent);
const words = JSON.parse(document.getElementById("studiolo-words").textContent);
const part = (name) => document.getElementById(`studiolo-${name}`);
const steps = [...document.querySelectorAll("[data-step]")];
const clock = new Intl.DateTimeFormat(document.documentElement.lang, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(document.documentElement.lang, { weekday: "short", hour: "2-digit", minute: "2-digit" });
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 15000;
const LONGER_PAUSE = 2000;
const CONSENT = "studiolo-notify";

let stream = null;
let pause = FIRST_PAUSE;
let leaving = false;
let over = false;
let ahead = 0; // of the hub's clock before this computer's, in seconds

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_all, name) => values[name] ?? "");
const time = (seconds) => {
  const moment = new Date(seconds * 1000);
  return (moment.toDateString() === new Date().toDateString() ? clock : day).format(moment);
};
// A status that says the same again would be read out again.
const say = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

function showStep(name, event) {
  const now = steps.findIndex((step) => step.dataset.step === name);
  steps.forEach((step, number) => {
    step.classList.toggle("studiolo-done", number < now);
    if (number === now) step.setAttribute("aria-current", "step");
    else step.removeAttribute("aria-current");
  });
  const note = (step, text) => {
    const element = steps.find((one) => one.dataset.step === step)?.querySelector(".studiolo-step-note");
    if (element && text) say(element, text);
  };
  if (event.asked_at) note("asked", time(event.asked_at));
  if (event.job) note("line", fill(words.job, { job: event.job }));
  if (event.node) note("node", event.node);
}

function showExpected(event) {
  let text = "";
  if (event.expected) {
    const late = event.expected <= Date.now() / 1000 + ahead;
    const values = { time: time(event.expected), was: event.was ? time(event.was) : "" };
    text = late ? words.soon : fill(values.was && values.was !== values.time ? words.moved : words.expected, values);
  }
  say(part("expected"), text);
}

function show(event) {
  if (event.now) ahead = event.now - Date.now() / 1000;
  if (event.step) showStep(event.step, event);
  if (event.told) say(part("state"), event.told);
  showExpected(event);
  say(part("calm"), event.answers === false ? words.silent : "");
  if (event.title) document.title = `${event.title} · ${data.title}`;
}

// --- The end of the wait ---------------------------------------------------------------------------------------------

function finish(ready) {
  over = true;
  stream?.close();
  showStep(ready ? "ready" : "", {});
  document.title = `${ready ? words.ready : words.failed} · ${data.title}`;
  say(part("state"), ready ? words.readyHere : words.failedBody);
  say(part("expected"), "");
  say(part("calm"), "");
  part("cancel").hidden = true;
  tell(ready ? words.readyBody : words.failedBody);
  // The hub has the next page for this address. A session that nobody looks at is not visited in their place: the site
  // may release it for somebody else.
  if (document.visibilityState === "visible") window.location.reload();
  else document.addEventListener("visibilitychange", () => window.location.reload(), { once: true });
}

// --- The stream of events --------------------------------------------------------------------------------------------

function listen() {
  stream = new EventSource(new URL(data.progress, window.location));
  stream.onmessage = ({ data: text }) => {
    pause = FIRST_PAUSE;
    const event = JSON.parse(text);
    if (leaving || over) return;
    if (event.ready) finish(true);
    else if (event.failed) {
      stream.close();
      look();
    } else show(event);
  };
  stream.onerror = () => {
    if (over || leaving) return;
    say(part("calm"), words.away);
    if (stream.readyState === EventSource.CLOSED) setTimeout(look, pause);
    pause = Math.min(LONGEST_PAUSE, pause * 1.6);
  };
}

// The stream was refused, or called the start failed: the hub is away, is going or has just come back, or the start is
// over. `told` is whether the last look found it over: a hub that is being stopped calls every start over, and goes on
// with it after its restart, so that only a second look is believed.
async function look(told = false) {
  if (over || leaving) return;
  let overNow = false;
  try {
    const answer = await fetch(window.location.href, { redirect: "manual", cache: "no-store" });
    if (answer.type === "opaqueredirect") {
      const status = await statusOfStream();
      if (status < 400) listen();
      else if (status < 500) window.location.reload(); // to the log-in, or to the start page: wherever it sends people now
      if (status < 500) return;
    }
    const text = answer.status < 500 || answer.headers.get("X-JupyterHub-Version") ? await answer.text() : "";
    if (text.includes('id="studiolo-waiting"')) {
      listen();
      return;
    }
    overNow = text !== "" && !text.includes('id="studiolo-goes-on"');
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // fetch's word for a network that fails: the hub is away
  }
  if (overNow && told) {
    finish(false);
    return;
  }
  pause = overNow ? LONGER_PAUSE : Math.min(LONGEST_PAUSE, pause * 1.6);
  setTimeout(() => look(overNow), pause);
}

// What the hub says to who asks for news of this start: below 400 where there are some, also that it is ready.
async function statusOfStream() {
  const asked = new AbortController();
  const answer = await fetch(new URL(data.progress, window.location), { signal: asked.signal, cache: "no-store" });
  asked.abort();
  return answer.status;
}

// --- Cancelling ------------------------------------------------------------------------------------------------------

part("cancel").hidden = false;
part("cancel").addEventListener("click", async () => {
  const button = part("cancel");
  button.disabled = true;
  leaving = true; // a reload at the news that the start has failed would cut the request off
  say(part("state"), words.cancelling);
  say(part("trouble"), "");
  const server = new URL(data.progress, window.location);
  server.pathname = server.pathname.replace(/\/progress$/, "");
  let status = "";
  try {
    const answer = await fetch(server, { method: "DELETE" });
    if (answer.ok || answer.status === 404) {
      window.location = data.home;
      return;
    }
    status = answer.status;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
  button.disabled = false;
  leaving = false;
  say(part("trouble"), fill(words.notCancelled, { status: status || "…" }));
});

// --- Notifications, with consent -------------------------------------------------------------------------------------

const may = () => "Notification" in window && Notification.permission === "granted" && localStorage.getItem(CONSENT) === "yes";

function showConsent() {
  const button = part("notify");
  button.hidden = !("Notification" in window);
  button.setAttribute("aria-pressed", String(may()));
  say(button, may() ? words.notifying : words.notify);
}

function tell(text) {
  if (!may()) return;
  try {
    const notice = new Notification(data.title, { body: text, tag: window.location.pathname });
    notice.onclick = () => {
      window.focus();
      notice.close();
    };
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // some browsers of phones only let service workers notify
  }
}

part("notify").addEventListener("click", async () => {
  if (may()) {
    localStorage.removeItem(CONSENT);
  } else {
    const answer = await Notification.requestPermission();
    if (answer === "granted") localStorage.setItem(CONSENT, "yes");
    say(part("notify-note"), answer === "granted" ? "" : words.denied);
  }
  showConsent();
});

showConsent();
if (data.event) show(data.event);
listen();
