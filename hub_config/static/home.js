// Keeps the home page live: time left and cost each second, everything else when the hub says that it has changed. The
// page is written by the hub alone; where more than figures has changed, that part of it is fetched anew.
const words = JSON.parse(document.getElementById("studiolo-words").textContent);
const language = document.documentElement.lang || "en";
const MINUTE = 60;
const SOON = 10 * MINUTE;

const say = (text, values) => text.replace(/%\((\w+)\)s/g, (_whole, name) => values[name]);
const home = () => document.getElementById("studiolo-home");

// The hub's clock, by our own: theirs may differ.
let offset = Number(home().dataset.now) - Date.now() / 1000;
const now = () => Date.now() / 1000 + offset;

// In the page's own words, so that nothing changes its look when the script takes over.
const duration = (seconds) => {
  const days = Math.floor(seconds / 86400);
  const hours = Math.floor((seconds % 86400) / 3600);
  const minutes = Math.floor((seconds % 3600) / MINUTE);
  const parts = [[days, words.days], [hours, words.hours], [minutes, words.minutes]].filter(([count]) => count);
  if (seconds < SOON) parts.push([Math.floor(seconds % MINUTE), words.seconds]);
  return parts.map(([number, unit]) => say(unit, { number })).join(" ");
};
const clock = (at) =>
  new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" }).format(new Date((at - offset) * 1000));
const sameDay = (one, other) => one.toDateString() === other.toDateString();
const moment = (then) => {
  const day = sameDay(then, new Date()) ? {} : { weekday: "short", day: "numeric", month: "short" };
  return new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", ...day }).format(then);
};
// The hub writes moments by its own clock: it does not know where people sit.
const tellTimes = () => {
  for (const told of document.querySelectorAll(".studiolo-jobs time")) told.textContent = moment(new Date(told.dateTime));
};
const hours = new Intl.NumberFormat(language, { minimumFractionDigits: 2, maximumFractionDigits: 2 });

const tick = () => {
  for (const card of document.querySelectorAll(".studiolo-session")) {
    const ends = Number(card.dataset.ends);
    const left = card.querySelector(".studiolo-left");
    if (left && ends) {
      const seconds = ends - now();
      left.textContent = seconds > 0 ? duration(seconds) : words.over;
      left.title = say(words.at, { clock: clock(ends) });
      left.classList.toggle("studiolo-soon", seconds < SOON);
    }
    const started = Number(card.dataset.started);
    for (const cost of card.querySelectorAll(".studiolo-cost")) {
      // What was told for the time so far, taken on.
      cost.dataset.rate ??= String(Number(cost.dataset.hours) / Math.max(1, Number(home().dataset.now) - started));
      cost.textContent = say(words[cost.dataset.kind], { hours: hours.format(Number(cost.dataset.rate) * (now() - started)) });
    }
  }
};

// That of what is told for whose change the page is fetched anew.
const essence = (told) =>
  JSON.stringify({ ...told, now: 0, sessions: told.sessions.map((session) => ({ ...session, cost: null })) });
let before = essence(JSON.parse(home().dataset.told));

// The hub's own page again, in place of what is shown; whoever is at a button stays there.
const refresh = async () => {
  // JupyterHub wants to know that a page of its own asks.
  const headers = { Accept: "text/html", "X-XSRFToken": home().dataset.xsrf };
  const answer = await fetch(window.location.pathname, { headers });
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById("studiolo-home");
  if (!fresh) return;
  const kept = page.querySelector(".studiolo-kept");
  const focused = document.activeElement?.getAttribute("aria-label");
  const within = home().contains(document.activeElement);
  home().replaceWith(document.adoptNode(fresh));
  const list = document.querySelector(".studiolo-kept");
  if (list && kept) list.replaceWith(document.adoptNode(kept));
  else if (kept) document.querySelector(".studiolo-more-sessions")?.append(document.adoptNode(kept));
  else list?.remove();
  offset = Number(home().dataset.now) - Date.now() / 1000;
  before = essence(JSON.parse(home().dataset.told));
  if (within && focused) {
    [...home().querySelectorAll("[aria-label]")].find((each) => each.getAttribute("aria-label") === focused)?.focus();
  }
  confirmDeletions();
  tellTimes();
  tick();
};

let refreshing = Promise.resolve();
let pause = 2_000; // ms before the next try, while the hub is away
const follow = () => {
  const address = new URL(home().dataset.events, window.location);
  address.searchParams.set("_xsrf", home().dataset.xsrf);
  const events = new EventSource(address);
  events.onmessage = ({ data }) => {
    pause = 2_000;
    const told = JSON.parse(data);
    offset = told.now - Date.now() / 1000;
    // Nobody's choice is to vanish below the hand: what is open is left until it is closed.
    const open = document.activeElement?.tagName === "SELECT" || home().querySelector("details[open]");
    if (essence(told) !== before && !open) {
      before = essence(told);
      refreshing = refreshing.then(refresh).catch(() => {});
    }
  };
  events.onerror = () => {
    if (events.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    setTimeout(follow, pause); // refused, or the hub is being restarted: a browser would never ask again
    pause = Math.min(60_000, pause * 2);
  };
};

const confirmDeletions = () => {
  for (const form of document.querySelectorAll("form[data-action=delete]")) {
    form.onsubmit = () => window.confirm(words.delete);
  }
};

confirmDeletions();
tellTimes();
tick();
setInterval(tick, 1000);
follow();
