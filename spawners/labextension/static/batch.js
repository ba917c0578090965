// "Run as Batch Job…" in JupyterLab's Run menu: a form made from the notebook's parameters, and a notification that follows the
// run. The server's part is spawners/batch_api.py; `remoteEntry.js` loads this file.
const TEXTS = {
  en: {
    command: "Run as Batch Job…",
    caption: "Send this notebook off to run by itself; it goes on when this session has ended",
    title: "Run “%(name)s” as a batch job",
    intro: "It runs by itself, also after this session has ended. What is left as it is stays as in the notebook and as in this session.",
    parameters: "Parameters",
    noParameters: "This notebook has no cell tagged “parameters”: it runs as it is.",
    resources: "Resources",
    gpus: "GPUs",
    shards: "Parts of a GPU",
    cpus: "CPUs",
    memory: "Memory",
    minutes: "Time",
    most: "at most %(most)s",
    costs: "At most %(price)s. %(words)s",
    rehearse: "Rehearse first, for some minutes on small resources",
    asking: "Asking what it costs and when it starts…",
    sending: "%(name)s is being sent off…",
    run: "Run",
    cancel: "Cancel",
    failed: "This notebook can not be sent off: %(message)s",
    told: "%(name)s: %(words)s",
    done: "Done.",
    waiting: "Waiting in the queue.",
    starting: "Starting.",
    running: "Running.",
    stopping: "Being stopped.",
    cancelled: "It was cancelled.",
    unknown: "The scheduler does not say how it is.",
    broken: "It failed.",
    open: "Open",
    openThis: "Open the executed notebook, as far as it is",
    away: "The session's server does not answer.",
  },
  fr: {
    command: "Exécuter par lots…",
    caption: "Envoyer ce notebook s’exécuter seul ; il continue après la fin de cette session",
    title: "Exécuter « %(name)s » par lots",
    intro: "Il s’exécute seul, même après la fin de cette session. Ce qui n’est pas changé reste comme dans le notebook et comme dans cette session.",
    parameters: "Paramètres",
    noParameters: "Ce notebook n’a pas de cellule marquée « parameters » : il s’exécute tel quel.",
    resources: "Ressources",
    gpus: "GPU",
    shards: "Parts d’un GPU",
    cpus: "CPU",
    memory: "Mémoire",
    minutes: "Durée",
    most: "au plus %(most)s",
    costs: "Au plus %(price)s. %(words)s",
    rehearse: "Répéter d’abord, quelques minutes sur de petites ressources",
    asking: "Demande du coût et de l’heure de début…",
    sending: "%(name)s est en cours d’envoi…",
    run: "Exécuter",
    cancel: "Annuler",
    failed: "Ce notebook ne peut pas être envoyé : %(message)s",
    told: "%(name)s : %(words)s",
    done: "Terminé.",
    waiting: "En attente dans la file.",
    starting: "Démarre.",
    running: "En cours.",
    stopping: "En cours d’arrêt.",
    cancelled: "Annulé.",
    unknown: "L’ordonnanceur ne dit pas où il en est.",
    broken: "Échec.",
    open: "Ouvrir",
    openThis: "Ouvrir le notebook exécuté, jusqu’où il en est",
    away: "Le serveur de la session ne répond pas.",
  },
  de: {
    command: "Als Batch-Job ausführen…",
    caption: "Dieses Notebook allein laufen lassen; es läuft weiter, wenn diese Sitzung zu Ende ist",
    title: "„%(name)s“ als Batch-Job ausführen",
    intro: "Es läuft allein, auch nach dem Ende dieser Sitzung. Was nicht geändert wird, bleibt wie im Notebook und wie in dieser Sitzung.",
    parameters: "Parameter",
    noParameters: "Dieses Notebook hat keine mit „parameters“ markierte Zelle: Es läuft, wie es ist.",
    resources: "Ressourcen",
    gpus: "GPUs",
    shards: "Teile einer GPU",
    cpus: "CPUs",
    memory: "Speicher",
    minutes: "Zeit",
    most: "höchstens %(most)s",
    costs: "Höchstens %(price)s. %(words)s",
    rehearse: "Zuerst proben, einige Minuten mit kleinen Ressourcen",
    asking: "Kosten und Beginn werden erfragt…",
    sending: "%(name)s wird abgeschickt…",
    run: "Ausführen",
    cancel: "Abbrechen",
    failed: "Dieses Notebook kann nicht abgeschickt werden: %(message)s",
    told: "%(name)s: %(words)s",
    done: "Fertig.",
    waiting: "Wartet in der Warteschlange.",
    starting: "Beginnt.",
    running: "Läuft.",
    stopping: "Wird beendet.",
    cancelled: "Abgebrochen.",
    unknown: "Der Scheduler sagt nicht, wie es steht.",
    broken: "Fehlgeschlagen.",
    open: "Öffnen",
    openThis: "Das ausgeführte Notebook öffnen, so weit es ist",
    away: "Der Server der Sitzung antwortet nicht.",
  },
};
const COMMAND = "studiolo:run-as-batch";
const LOOKS = [2, 5, 10, 20, 30]; // seconds between two looks at a run
const LONGEST = 140; // what JupyterLab shows of a notification

const GRID = "display: grid; gap: 0 1rem; grid-template-columns: repeat(auto-fit, minmax(min(11rem, 100%), 1fr))";
// What it costs and what is wrong with it is seen wherever the form is scrolled to.
const STICKY = "position: sticky; bottom: 0; margin: 0; padding: .4rem 0; background: var(--jp-layout-color1)";

const fill = (text, values) => text.replace(/%\((\w+)\)s/g, (_whole, name) => values[name]);
const cut = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text);

// An element with attributes and children; texts are only ever texts.
const element = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

// The form's fields; `changed` is called when somebody has changed one.
class Form {
  constructor({ told, say, name, changed }) {
    this.inputs = { parameters: {}, resources: {} };
    this.rehearse = element("input", { type: "checkbox", id: "studiolo-batch-rehearse" });
    this.said = element("span", { role: "status" });
    this.trouble = element("span", { role: "alert", style: "color: var(--jp-error-color0, #b00020); white-space: pre-wrap" });
    const parameters = told.parameters.map((each) => this.field("parameters", each.name, each.name, each.value, each.help || each.kind));
    const resources = told.resources.map((each) =>
      this.field("resources", each.name, say(each.name), each.value, say("most", { most: each.most })),
    );
    this.node = element(
      "form",
      { class: "studiolo-batch", style: "width: min(36rem, 80vw)" },
      element("p", {}, say("intro")),
      element("h3", {}, say("parameters")),
      ...(parameters.length ? [element("div", { style: GRID }, ...parameters)] : [element("p", {}, say("noParameters"))]),
      element("h3", {}, say("resources")),
      element("div", { style: GRID }, ...resources),
      element("p", {}, this.rehearse, element("label", { for: "studiolo-batch-rehearse", style: "margin-left: .4em" }, say("rehearse"))),
      element("p", { style: `${STICKY}; min-height: 2.8em` }, this.said, this.trouble),
    );
    this.node.setAttribute("aria-label", say("title", { name }));
    this.node.addEventListener("input", changed);
    this.node.addEventListener("submit", (event) => event.preventDefault());
  }

  field(group, name, label, value, help) {
    const id = `studiolo-batch-${group}-${name}`;
    const input = element("input", { id, class: "jp-mod-styled", autocomplete: "off", spellcheck: "false", style: "width: 100%; box-sizing: border-box" });
    input.value = value;
    this.inputs[group][name] = { input, value };
    const words = [element("label", { for: id, style: "display: block" }, label), input];
    if (help) {
      input.setAttribute("aria-describedby", `${id}-help`);
      words.push(element("small", { id: `${id}-help`, style: "color: var(--jp-ui-font-color2)" }, help));
    }
    return element("div", { style: "margin-bottom: .6rem" }, ...words);
  }

  // What somebody has changed; all else is left to the notebook and the session.
  values(group) {
    const changed = Object.entries(this.inputs[group]).filter(([_name, { input, value }]) => input.value !== value);
    return Object.fromEntries(changed.map(([name, { input }]) => [name, input.value]));
  }

  // Says what is wrong, and marks the fields that it is about; nothing where all is well.
  tell(error) {
    const wrong = new Set(error?.fields ?? []);
    this.trouble.textContent = error?.message ?? "";
    for (const [name, { input }] of Object.values(this.inputs).flatMap(Object.entries)) {
      if (wrong.has(name)) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
      input.style.borderColor = wrong.has(name) ? "var(--jp-error-color1, #b00020)" : "";
    }
  }

  body() {
    return { parameters: this.values("parameters"), resources: this.values("resources"), rehearse: this.rehearse.checked };
  }
}

// Asks the session's server; whatever goes wrong is an Error with a sentence.
const asker = ({ ServerConnection, settings, url, say }) => async (path, body) => {
  const init = body ? { method: "POST", body: JSON.stringify(body) } : { method: "GET" };
  let answer;
  try {
    answer = await ServerConnection.makeRequest(`${url}${path}`, init, settings);
  } catch {
    throw new Error(say("away"));
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(told.message || String(answer.status)), { fields: told.fields });
  return told;
};

// One notification for each run, for as long as it lasts and nobody has closed it.
const follower = ({ Notification, ask, say, open }) => (run) => {
  const action = (told) => ({ label: say("open"), caption: say("openThis"), displayType: "link", callback: () => open(told.path) });
  const state = (told) => say(told.state === "failed" ? "broken" : told.state);
  const words = (told) => cut(say("told", { name: told.name, words: told.words || state(told) }));
  const id = Notification.emit(words(run), "in-progress", { autoClose: false });
  let looks = 0;
  const look = async () => {
    let told;
    try {
      told = await ask(`/${run.id}`);
    } catch (error) {
      console.debug("studiolo:", error);
      setTimeout(look, LOOKS.at(-1) * 1000);
      return;
    }
    const type = { done: "success", failed: "error", cancelled: "warning" }[told.state] ?? "in-progress";
    const actions = told.path ? [action(told)] : [];
    if (!Notification.manager.has(id)) return; // closed
    Notification.update({ id, message: words(told), type, actions, autoClose: false });
    if (told.over) return;
    looks += 1;
    setTimeout(look, LOOKS[Math.min(looks, LOOKS.length - 1)] * 1000);
  };
  setTimeout(look, LOOKS[0] * 1000);
};

export const batch = async ({ lab, languageOf }) => {
  const names = [
    "@jupyterlab/apputils",
    "@jupyterlab/coreutils",
    "@jupyterlab/mainmenu",
    "@jupyterlab/notebook",
    "@jupyterlab/services",
    "@jupyterlab/translation",
    "@lumino/widgets",
  ];
  const [{ Dialog, ICommandPalette, Notification, showDialog, showErrorMessage }, { PathExt, URLExt }, { IMainMenu }, { INotebookTracker }, { ServerConnection }, { ITranslator }, { Widget }] =
    await Promise.all(names.map(lab));
  return {
    id: "studiolo:batch",
    description: "Runs a notebook as a batch job.",
    autoStart: true,
    requires: [INotebookTracker],
    optional: [IMainMenu, ICommandPalette, ITranslator],
    activate: (app, tracker, menu, palette, translator) => {
      const language = languageOf(translator, navigator.languages);
      const say = (key, values = {}) => fill(TEXTS[language][key], values);
      const settings = app.serviceManager.serverSettings;
      const url = URLExt.join(settings.baseUrl, "studiolo", "batch");
      const ask = asker({ ServerConnection, settings, url, say });
      const show = (path) => app.commands.execute("docmanager:open", { path });
      const follow = follower({ Notification, ask, say, open: show });
      const open = new Set(); // notebooks whose form is open, or on its way

      const form = async (path) => {
        const name = PathExt.basename(path);
        const told = await ask(`?path=${encodeURIComponent(path)}`);
        let asked = 0;
        let timer;
        const foretell = () => {
          clearTimeout(timer);
          timer = setTimeout(async () => {
            const number = (asked += 1);
            fields.said.textContent = say("asking");
            let words;
            try {
              words = say("costs", await ask("", { path, ...fields.body(), dry_run: true }));
              if (number === asked) fields.tell();
            } catch (error) {
              words = "";
              if (number === asked) fields.tell(error);
            }
            if (number === asked) fields.said.textContent = words;
          }, 600);
        };
        const fields = new Form({ told, say, name, changed: foretell });
        foretell();
        const buttons = [Dialog.cancelButton({ label: say("cancel") }), Dialog.okButton({ label: say("run") })];
        // What can not be granted is said in the form, which keeps what was typed.
        for (;;) {
          const body = new Widget({ node: fields.node });
          const focusNodeSelector = fields.node.querySelector("[aria-invalid]") ? "[aria-invalid]" : "input";
          const { button } = await showDialog({ title: say("title", { name }), body, buttons, focusNodeSelector });
          asked += 1;
          clearTimeout(timer);
          if (!button.accept) return;
          // The form is closed by now, and a scheduler may take its time: nobody is to press twice for want of a word.
          const sending = Notification.emit(say("sending", { name }), "in-progress", { autoClose: false });
          try {
            follow(await ask("", { path, ...fields.body() }));
            return;
          } catch (error) {
            fields.said.textContent = "";
            fields.tell(error);
          } finally {
            Notification.dismiss(sending);
          }
        }
      };

      app.commands.addCommand(COMMAND, {
        label: say("command"),
        caption: say("caption"),
        isEnabled: () => tracker.currentWidget !== null,
        execute: async () => {
          const panel = tracker.currentWidget;
          if (!panel || open.has(panel.context.path)) return; // pressed twice
          const { context } = panel;
          const { path } = context;
          open.add(path);
          try {
            if (context.model.dirty) await context.save();
            await form(path);
          } catch (error) {
            await showErrorMessage(say("command"), say("failed", { message: error.message }), [Dialog.okButton()]);
          } finally {
            open.delete(path);
          }
        },
      });
      menu?.runMenu.addGroup([{ command: COMMAND }], 100);
      palette?.addItem({ command: COMMAND, category: "Studiolo" });
    },
  };
};
export { TEXTS };
