// The start page, made live: what each choice would mean now, limits at the fields, presets. The page works without it.

const page = document.getElementById("studiolo-start-page");
const form = document.getElementById("spawn_form");
const choices = JSON.parse(document.getElementById("studiolo-choices").textContent);
const words = JSON.parse(document.getElementById("studiolo-words").textContent);
const language = document.documentElement.lang || "en";
const ESTIMATE_PAUSE = 500; // ms after the last key
const ESTIMATE_KEPT = 30_000; // ms that an answer about the knobs is good for
const FIELDS = ["minutes", "cpus", "memory", "gpus", "shards", "partition", "account", "qos", "environment", "reservation", "workdir"];

let offers = JSON.parse(document.getElementById("studiolo-offers").textContent);
let offset = offers ? offers.now - Date.now() / 1000 : 0; // of the hub's clock against this computer's, in seconds
const estimates = new Map(); // keyOf(options) -> { answer, at }

const element = (id) => document.getElementById(id);
const fill = (text, values = {}) => text.replace(/%\((\w+)\)s/g, (whole, name) => (name in values ? values[name] : whole));
const number = (value) => new Intl.NumberFormat(language, { maximumFractionDigits: 1 }).format(value);

/** Set a text only where it changed: what did not change is not read out again. */
function say(target, text) {
  if (target && target.textContent !== text) target.textContent = text;
}

function minutesWords(minutes) {
  const parts = [[Math.floor(minutes / 1440), "days"], [Math.floor((minutes % 1440) / 60), "hours"], [minutes % 60, "minutes"]];
  const told = parts.filter(([count]) => count).map(([count, unit]) => fill(words[unit], { number: number(count) }));
  return told.join(" ") || fill(words.minutes, { number: 0 });
}

function memoryWords(megabytes) {
  const [unit, size] = megabytes >= 1048576 ? ["tb", 1048576] : megabytes >= 1024 ? ["gb", 1024] : ["mb", 1];
  return fill(words[unit], { number: number(megabytes / size) });
}

/** How long until then: a length where it is soon, else the hour of the day. */
function wait(expected) {
  const seconds = expected - (Date.now() / 1000 + offset);
  if (seconds < 12 * 3600) {
    const minutes = Math.max(1, Math.ceil(seconds / 60));
    return { key: "in", text: minutesWords(minutes < 60 ? minutes : Math.ceil(minutes / 15) * 15) };
  }
  const when = new Intl.DateTimeFormat(language, { weekday: "short", hour: "numeric", minute: "2-digit" });
  return { key: "at", text: when.format(new Date(expected * 1000)) };
}

// --- What is chosen -----------------------------------------------------------------------------------------------------

function chosen() {
  const options = {};
  for (const [key, value] of new FormData(form)) {
    if (typeof value !== "string" || !value || key === "_xsrf") continue;
    if (key === "features") (options.features ??= []).push(value);
    else options[key] = value;
  }
  return options;
}

/** The same for the same choice, in whatever order and as text or number its fields came. */
const keyOf = (options) => JSON.stringify(Object.entries(options).map(([key, value]) => [key, String(value)]).sort());
const isPlain = (options) => Object.keys(options).every((key) => key === "profile");

function take(options) {
  for (const [key, value] of Object.entries(options)) {
    if (key === "hours" && value === null) continue; // the form has minutes alone
    const field = form.elements[key === "hours" ? "minutes" : key];
    if (key === "profile") {
      for (const radio of form.querySelectorAll('input[name="profile"]')) radio.checked = radio.value === value;
    } else if (key === "features") {
      for (const box of form.querySelectorAll('input[name="features"]')) box.checked = (value ?? []).includes(box.value);
    } else if (field) {
      field.disabled = false;
      field.value = key === "hours" ? `${value}h` : value ?? "";
    }
  }
  if (!isPlain(chosen())) form.querySelector(".studiolo-more").open = true;
  changed();
  element("studiolo-start").focus();
}

function plain() {
  for (const key of FIELDS) if (form.elements[key]) form.elements[key].value = "";
  for (const box of form.querySelectorAll('input[name="features"]')) box.checked = false;
}

// --- What it would mean -------------------------------------------------------------------------------------------------

/** What is known of a choice: from the offers where it is a card as it stands, from an answer about the knobs elsewhere. */
function outlook(options) {
  if (isPlain(options)) return offers?.profiles[options.profile] ?? null;
  return estimates.get(keyOf(options))?.answer ?? null;
}

function startsWords(known) {
  if (!known) return "";
  if (known.starts === "later" && known.expected) {
    const { key, text } = wait(known.expected);
    return fill(words[key], { time: text });
  }
  return words[known.starts] ?? words.unknown;
}

function project(options) {
  const name = options.account ?? choices.profiles[options.profile]?.account;
  const found = Object.entries(offers?.accounts ?? {}).find(([key, account]) => (name ? key === name : account.default));
  return found ? { ...found[1], title: found[1].title || found[0] } : null;
}

function costWords(known, options) {
  if (!known?.cost) return "";
  if (!known.cost.gpu_hours) return words.cost_none;
  const account = project(options);
  const cost = number(known.cost.gpu_hours);
  if ((account?.gpu_hours?.left ?? null) === null) return fill(words.cost, { cost });
  return fill(words.cost_left, { cost, left: number(account.gpu_hours.left), project: account.title });
}

function freeWords(known, profile) {
  const kind = profile.gpus ? "gpus" : profile.shards ? "shards" : "cpus";
  if ((known?.total?.[kind] ?? null) === null) return "";
  const told = [fill(words[`free_${kind}`], { free: number(known.free[kind]), total: number(known.total[kind]) })];
  if (known.waiting) told.push(fill(words.waiting, { count: number(known.waiting) }));
  return told.join(" · ");
}

function show(place, known, options) {
  const starts = place.querySelector('[data-live="starts"]');
  if (starts) {
    say(starts, startsWords(known));
    starts.dataset.kind = known?.starts ?? "";
  }
  const obstacle = place.querySelector('[data-live="obstacle"]');
  if (obstacle) say(obstacle, known?.obstacle?.text ?? "");
  const cost = place.querySelector('[data-live="cost"]');
  if (cost) say(cost, costWords(known, options));
}

function showInstead(place, instead) {
  place.hidden = !instead;
  say(place.querySelector("span"), instead?.text ?? "");
}

function showCards() {
  for (const card of form.querySelectorAll(".studiolo-card")) {
    const name = card.dataset.profile;
    const known = offers?.profiles[name] ?? null;
    show(card, known, { profile: name });
    say(card.querySelector('[data-live="free"]'), freeWords(known, choices.profiles[name]));
    showInstead(card.querySelector('[data-live="instead"]'), known?.instead);
  }
}

/** What the button will do, in its own words. */
function buttonWords(known, options) {
  const profile = choices.profiles[options.profile];
  if (!profile) return words.start;
  const minutes = asMinutes(options.minutes);
  const values = { what: profile.title, time: minutes ? minutesWords(minutes) : options.minutes || minutesWords(profile.minutes) };
  if (!known) return fill(words.start_unknown, values);
  if (known.starts === "later" && known.expected) {
    const { key, text } = wait(known.expected);
    return fill(words[`start_${key}`], { ...values, wait: text });
  }
  const key = { now: "start_now", later: "start_later", never: "start_anyway" }[known.starts] ?? "start_unknown";
  return fill(words[key], values);
}

/** Minutes of "90", "90m", "2h", "1d 12h"; null for anything else, which the hub reads. */
function asMinutes(text = "") {
  if (/^\d+$/.test(text)) return +text;
  const match = /^\s*(?:(\d+)\s*d)?\s*(?:(\d+(?:\.\d+)?)\s*h)?\s*(?:(\d+)\s*m(?:in)?)?\s*$/i.exec(text);
  return match && text.trim() ? Math.ceil((match[1] || 0) * 1440 + (match[2] || 0) * 60 + +(match[3] || 0)) : null;
}

let said = "";

/** What was kept is shown as the cards are: its own answer comes with the offers. */
function showKept() {
  const again = element("studiolo-again");
  const kept = [...page.querySelectorAll("[data-preset]")].map((place) => [place, offers?.kept?.presets[place.dataset.preset]]);
  for (const [place, known] of again ? [[again, offers?.kept?.last], ...kept] : kept) {
    const options = JSON.parse(place.dataset.options);
    show(place, known ?? outlook(options), options);
  }
}

function showChoice() {
  const options = chosen();
  const known = outlook(options);
  const when = element("studiolo-when");
  show(when, known, options);
  if (!known && !isPlain(options)) {
    say(when.querySelector('[data-live="starts"]'), words.asking);
  }
  when.hidden = !when.textContent.trim();
  showInstead(element("studiolo-sooner"), isPlain(options) ? null : known?.instead);
  const button = element("studiolo-start");
  if (button.getAttribute("aria-disabled") !== "true") say(button, buttonWords(known, options));
  // Read out when the choice or its kind of answer changes, not with every minute that passes.
  const state = JSON.stringify([keyOf(options), known?.starts, known?.obstacle?.kind]);
  if (known && state !== said) {
    if (said) say(element("studiolo-said"), [startsWords(known), known.obstacle?.text, costWords(known, options)].filter(Boolean).join(". "));
    said = state;
  }
  element("studiolo-plain").hidden = isPlain(options);
  showKept();
}

// --- Faults and limits at the fields ------------------------------------------------------------------------------------

function showFaults(faults) {
  const told = {};
  for (const { field, value, text } of faults) {
    const key = field === "hours" ? "minutes" : field;
    const named = value ? `${field} = ${value}` : field; // at its field, that is plain to see
    const rest = text.startsWith(named) ? text.slice(named.length).match(/^\s*: (.*)$/s) : null; // French has a space before it
    const short = rest ? rest[1] : text;
    told[key] = told[key] ? `${told[key]}; ${short}` : short;
  }
  for (const key of [...FIELDS, "features", "profile"]) {
    say(element(`studiolo-${key}-fault`), told[key] ?? "");
    const field = form.elements[key];
    if (field instanceof HTMLElement && field.hasAttribute("aria-invalid")) field.setAttribute("aria-invalid", key in told);
  }
}

/** A field that can not be used says why and is closed, unless it holds something: that stays in sight. */
function close(key, reason) {
  const field = form.elements[key];
  if (!field) return;
  field.disabled = Boolean(reason) && !field.value;
  if (reason) say(element(`studiolo-${key}-hint`), reason);
}

function hint(key, text, value) {
  const field = form.elements[key];
  if (!field) return;
  say(element(`studiolo-${key}-hint`), text);
  field.placeholder = value ? fill(words.as_card, { value }) : "";
}

const firstText = new WeakMap(); // of options, before anything was added to it

function mark(option, text) {
  if (!firstText.has(option)) firstText.set(option, option.textContent);
  const name = firstText.get(option);
  say(option, text ? fill(text, { name, ...(option.left !== undefined ? { left: option.left } : {}) }) : name);
}

function showLimits() {
  const options = chosen();
  const profile = choices.profiles[options.profile];
  if (!profile) return;
  const partition = options.partition ?? profile.partition;
  const limits = { ...choices.partitions[partition], ...(offers?.partitions?.[partition] ?? {}) };
  const range = (least, most) => fill(words.range, { least: number(least), most: number(most) });
  const most = (text) => fill(words.most, { most: text });
  hint("minutes", most(minutesWords(limits.max_minutes)), minutesWords(profile.minutes));
  hint("cpus", range(1, limits.max_cpus), number(profile.cpus));
  hint("memory", most(memoryWords(limits.max_memory_mb)), profile.memory);
  hint("gpus", range(0, limits.max_gpus), number(profile.gpus));
  hint("shards", range(0, limits.max_shards), number(profile.shards));
  close("gpus", limits.max_gpus ? (options.shards > 0 ? words.gpus_or_shards : "") : words.no_gpus);
  close("shards", limits.max_shards ? (options.gpus > 0 ? words.gpus_or_shards : "") : words.no_shards);
  setLengths(limits.max_minutes);

  for (const option of form.elements.partition?.options ?? []) {
    const live = offers?.partitions?.[option.value];
    mark(option, live && live.open === false ? words.closed : "");
  }
  for (const option of form.elements.account?.options ?? []) {
    if (!option.value) continue;
    const mine = offers?.accounts?.[option.value];
    const here = !limits.accounts.length || limits.accounts.includes(option.value);
    const foreign = offers && Object.keys(offers.accounts).length > 0 && !mine;
    const left = mine?.gpu_hours?.left;
    option.disabled = (!here || foreign) && !option.selected;
    if (left !== null && left !== undefined) option.left = number(left);
    mark(option, !here ? words.not_here : foreign ? words.not_yours : option.left !== undefined ? words.with_left : "");
  }
  const account = options.account ?? profile.account;
  for (const option of form.elements.qos?.options ?? []) {
    if (!option.value || !account) {
      option.disabled = false;
      mark(option, "");
      continue;
    }
    const fits = choices.accounts[account]?.qos.includes(option.value);
    option.disabled = !fits && !option.selected;
    mark(option, fits ? "" : words.not_in_project);
  }
  for (const box of form.querySelectorAll('input[name="features"]')) {
    box.disabled = !limits.features.includes(box.value) && !box.checked;
  }
  const reservations = (offers?.reservations ?? []).filter((one) => !one.maintenance && (!one.partitions || one.partitions.includes(partition)));
  element("studiolo-reservations").replaceChildren(...reservations.map((one) => new Option(one.name, one.name)));
}

/** Lengths to pick from, within the limit. */
function setLengths(limit) {
  const field = form.elements.minutes;
  let list = element("studiolo-lengths");
  if (!list) {
    list = document.createElement("datalist");
    list.id = "studiolo-lengths";
    form.append(list);
    field.setAttribute("list", list.id);
  }
  const lengths = ["30m", "1h", "2h", "4h", "8h", "12h", "1d", "2d"].filter((length) => asMinutes(length) <= limit);
  list.replaceChildren(...lengths.map((length) => new Option(length, length)));
}

// --- Asking -------------------------------------------------------------------------------------------------------------

const headers = { "Content-Type": "application/json", "X-XSRFToken": page.dataset.xsrf };
let timer = 0;
let asking = null;

async function ask(options) {
  const key = keyOf(options);
  asking?.abort();
  asking = new AbortController();
  let answer = { starts: "unknown" };
  try {
    const response = await fetch(page.dataset.estimate, { method: "POST", headers, body: JSON.stringify({ user_options: options }), signal: asking.signal });
    if (response.ok) answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") return;
  }
  estimates.set(key, { answer, at: Date.now() });
  if (key !== keyOf(chosen())) return;
  if (answer.faults) showFaults(answer.faults);
  showChoice();
}

function askSoon() {
  const options = chosen();
  clearTimeout(timer);
  if (isPlain(options)) return;
  const known = estimates.get(keyOf(options));
  if (known && Date.now() - known.at < ESTIMATE_KEPT) {
    if (known.answer.faults) showFaults(known.answer.faults);
    return;
  }
  timer = setTimeout(() => ask(options), ESTIMATE_PAUSE);
}

function changed() {
  showLimits();
  if (isPlain(chosen())) showFaults([]);
  askSoon();
  showChoice();
}

function showSilence() {
  const banner = element("studiolo-silent");
  banner.hidden = !offers || offers.answers;
  if (banner.hidden) return;
  const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });
  const since = offers.silent_since;
  say(banner, since ? fill(words.silent, { time: clock.format(new Date(since * 1000)) }) : words.silent_always);
}

function showOffers() {
  showSilence();
  showLimits();
  showCards();
  askSoon();
  showChoice();
}

let pause = 2_000; // ms before the next try, while the hub is away

function listen() {
  const asked = new URLSearchParams({ _xsrf: page.dataset.xsrf });
  if (page.dataset.session !== undefined) asked.set("session", page.dataset.session);
  const events = new EventSource(`${page.dataset.offers}?${asked}`);
  events.onmessage = ({ data }) => {
    pause = 2_000;
    offers = JSON.parse(data);
    offset = offers.now - Date.now() / 1000;
    showOffers();
  };
  events.onerror = () => {
    if (events.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    setTimeout(listen, pause); // refused, or the hub is being restarted: a browser would never ask again
    pause = Math.min(60_000, pause * 2);
  };
  window.addEventListener("pagehide", () => events.close(), { once: true });
}

// --- Taking, starting, keeping ------------------------------------------------------------------------------------------

for (const card of form.querySelectorAll(".studiolo-card")) {
  card.querySelector('[data-live="instead"] button').addEventListener("click", () => {
    const instead = offers?.profiles[card.dataset.profile]?.instead;
    if (!instead) return;
    plain();
    take({ profile: card.dataset.profile, ...instead.options });
  });
}
element("studiolo-sooner").querySelector("button").addEventListener("click", () => {
  const instead = outlook(chosen())?.instead;
  if (instead) take(instead.options);
});
element("studiolo-plain").addEventListener("click", () => {
  plain();
  changed();
  form.querySelector(".studiolo-more summary").focus();
});
form.addEventListener("input", changed);

for (const sent of [form, element("studiolo-again")]) {
  sent?.addEventListener("submit", (event) => {
    const button = sent.querySelector('button[type="submit"]');
    if (button.getAttribute("aria-disabled") === "true") return event.preventDefault(); // the second of two clicks
    button.setAttribute("aria-disabled", "true");
    if (sent === form) say(button, words.starting);
  });
}
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return; // brought back as it was left
  for (const button of page.querySelectorAll('[aria-disabled="true"]')) button.removeAttribute("aria-disabled");
  listen();
  changed();
});

const presetUrl = (name) => `${page.dataset.presets}/${encodeURIComponent(name)}`;

async function refusal(response) {
  try {
    return (await response.json()).message || words.failed;
  } catch {
    return words.failed;
  }
}

element("studiolo-save").addEventListener("submit", async (event) => {
  event.preventDefault();
  const told = element("studiolo-save-said");
  const name = element("studiolo-preset-name").value.trim().replace(/\s+/g, " ");
  if (!name) return say(told, words.name_first);
  try {
    const response = await fetch(presetUrl(name), { method: "PUT", headers, body: JSON.stringify({ user_options: chosen() }) });
    if (!response.ok) return say(told, await refusal(response));
  } catch {
    return say(told, words.failed);
  }
  const address = new URL(window.location);
  for (const key of [...address.searchParams.keys()]) if (key !== "next" && key !== "display_name") address.searchParams.delete(key);
  address.searchParams.set("preset", name);
  window.location.assign(address);
});

for (const button of page.querySelectorAll("[data-delete]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const name = button.dataset.delete;
    if (!window.confirm(fill(words.delete, { name }))) return;
    let trouble = words.failed;
    try {
      const response = await fetch(presetUrl(name), { method: "DELETE", headers });
      trouble = response.ok ? "" : await refusal(response);
    } catch {
      // told below
    }
    if (!trouble) button.closest("li").remove();
    element("studiolo-presets-title").focus();
    say(element("studiolo-said"), trouble || fill(words.deleted, { name }));
    if (trouble) window.alert(trouble);
  });
}

element("studiolo-copy").addEventListener("click", async () => {
  const address = new URL(page.dataset.link, window.location);
  for (const [key, value] of Object.entries(chosen())) {
    address.searchParams.set(`opt-${key}`, Array.isArray(value) ? value.join(",") : value);
  }
  const field = element("studiolo-link");
  field.hidden = false;
  field.value = address.href;
  field.select();
  try {
    await navigator.clipboard.writeText(address.href);
    say(element("studiolo-save-said"), words.copied);
  } catch {
    say(element("studiolo-save-said"), words.copy_it); // not allowed, or plain http: the link stands there, selected
  }
});

element("studiolo-keep").hidden = false;
if (offers) showOffers();
else changed();
listen();
setInterval(() => offers && showOffers(), 30_000); // "in 12 min" gets shorter though nobody tells
