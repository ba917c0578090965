// The page's part of a session, as a JupyterLab extension without a build: JupyterLab loads this file, hands over what
// it shares (`init`), and asks for the plugin (`get`). The server's part is spawners/session_api.py.
window._JUPYTERLAB = window._JUPYTERLAB || {};
window._JUPYTERLAB.studiolo = (() => {
  const MINUTE = 60;
  const WARNINGS = [30, 10, 2]; // minutes before the end
  const SAVE_AT = [2 * MINUTE, 20]; // seconds before the end
  const place = document.currentScript?.src; // of this file: the others lie beside it
  let shared = {};

  const TEXTS = {
    en: {
      left: "%(time)s left",
      over: "time is over",
      until: "This session ends at %(clock)s.",
      ends: "This session ends at %(clock)s, in %(time)s. Files stay, what is in memory goes.",
      endsSoon: "This session ends in %(time)s. Everything unsaved is being saved; what is in memory goes.",
      unsaved: "Could not be saved: %(names)s. Save it under another name.",
      extended: "This session now ends at %(clock)s.",
      idle: "Idle for %(time)s: this session will be stopped at %(clock)s. Run a cell or press Keep. Files stay, what is in memory goes.",
      idleNow: "Idle for %(time)s: this session will be stopped any moment. Run a cell or press Keep. Files stay, what is in memory goes.",
      minute: "a minute",
      minutes: "%(count)s minutes",
      keep: "Keep",
      keepThis: "Keep this session running",
      more: "My sessions",
      moreThis: "Open the page of your sessions, where more time may be had",
    },
    fr: {
      left: "encore %(time)s",
      over: "temps écoulé",
      until: "Cette session se termine à %(clock)s.",
      ends: "Cette session se termine à %(clock)s, dans %(time)s. Les fichiers restent, la mémoire est perdue.",
      endsSoon: "Cette session se termine dans %(time)s. Tout est en cours d’enregistrement ; la mémoire sera perdue.",
      unsaved: "N’a pas pu être enregistré : %(names)s. Enregistrez sous un autre nom.",
      extended: "Cette session se termine maintenant à %(clock)s.",
      idle: "Inactive depuis %(time)s : arrêt à %(clock)s. Exécutez une cellule ou cliquez sur Garder. Fichiers conservés, mémoire perdue.",
      idleNow: "Inactive depuis %(time)s : arrêt imminent. Exécutez une cellule ou cliquez sur Garder. Fichiers conservés, mémoire perdue.",
      minute: "une minute",
      minutes: "%(count)s minutes",
      keep: "Garder",
      keepThis: "Garder cette session en marche",
      more: "Mes sessions",
      moreThis: "Ouvrir la page de vos sessions, où l’on peut demander plus de temps",
    },
    de: {
      left: "noch %(time)s",
      over: "Zeit abgelaufen",
      until: "Diese Sitzung endet um %(clock)s.",
      ends: "Diese Sitzung endet um %(clock)s, in %(time)s. Dateien bleiben, was im Speicher ist, geht verloren.",
      endsSoon: "Diese Sitzung endet in %(time)s. Alles Ungesicherte wird gespeichert; was im Speicher ist, geht verloren.",
      unsaved: "Konnte nicht gespeichert werden: %(names)s. Speichern Sie es unter anderem Namen.",
      extended: "Diese Sitzung endet nun um %(clock)s.",
      idle: "Untätig seit %(time)s: Ende um %(clock)s. Führen Sie eine Zelle aus oder drücken Sie Behalten. Dateien bleiben, Speicher geht verloren.",
      idleNow: "Untätig seit %(time)s: gleich beendet. Führen Sie eine Zelle aus oder drücken Sie Behalten. Dateien bleiben, Speicher geht verloren.",
      minute: "einer Minute",
      minutes: "%(count)s Minuten",
      keep: "Behalten",
      keepThis: "Diese Sitzung weiterlaufen lassen",
      more: "Meine Sitzungen",
      moreThis: "Die Seite Ihrer Sitzungen öffnen, wo es mehr Zeit geben kann",
    },
  };

  // JupyterLab's language where somebody has chosen one, else the browser's.
  const languageOf = (translator, browser) => {
    const main = (name) => name.toLowerCase().split(/[-_]/)[0];
    const chosen = main(translator?.languageCode ?? "");
    const known = [chosen === "en" ? "" : chosen, ...browser.map(main)];
    return known.find((name) => Object.hasOwn(TEXTS, name)) ?? "en";
  };

  const speaker = (language) => {
    const fill = (text, values) => text.replace(/%\((\w+)\)s/g, (_whole, name) => values[name]);
    const say = (key, values = {}) => fill(TEXTS[language][key], values);
    const minutes = (seconds) => {
      const count = Math.max(1, Math.floor(seconds / MINUTE));
      return count === 1 ? say("minute") : say("minutes", { count });
    };
    // "1 h 52 min": in the last minutes with seconds.
    const duration = (seconds) => {
      const [hours, rest] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / MINUTE)];
      const parts = [[hours, "h"], [rest, "min"]].filter(([count]) => count);
      if (seconds < 5 * MINUTE) parts.push([Math.floor(seconds % MINUTE), "s"]);
      return parts.map(([count, unit]) => `${count} ${unit}`).join(" ");
    };
    // By the clock of the person's own computer, which may not be the server's.
    const clock = (session, at) =>
      new Date(Date.now() + (at - session.now) * 1000).toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" });
    return { say, minutes, duration, clock };
  };

  // One of JupyterLab's own modules: there is one version of each in a page.
  const lab = async (name) => {
    const [version] = Object.values(shared[name]);
    return (await version.get())();
  };

  // Asks the session's server once a minute, and sooner where something is about to happen; calls all `watchers`.
  class Session {
    constructor({ ServerConnection, settings, url, watchers }) {
      Object.assign(this, { ServerConnection, settings, url, watchers });
    }

    async look(method = "GET") {
      clearTimeout(this.timer);
      let pause = MINUTE;
      try {
        const answer = await this.ServerConnection.makeRequest(this.url, { method }, this.settings);
        if (!answer.ok) throw new Error(`${answer.status} from ${this.url}`);
        const session = await answer.json();
        for (const watcher of this.watchers) watcher(session, this);
        const next = [session.warned_at, session.culled_at].filter((at) => at > session.now).map((at) => at - session.now);
        // Near the end a new end is worth hearing soon.
        if (session.ends && session.ends - session.now < 4 * MINUTE) next.push(10);
        pause = Math.max(2, Math.min(MINUTE, ...next));
      } catch (error) {
        // JupyterLab itself tells that its server does not answer; it may again.
        console.debug("studiolo:", error);
      }
      this.timer = setTimeout(() => this.look(), pause * 1000);
    }
  }

  // Before an idle session is stopped: what will happen, when, and how to keep it.
  const idleWarning = (Notification, { say, minutes, clock }) => {
    let shown = null;
    return (session, asker) => {
      if (!session.warned_at || session.now < session.warned_at) {
        if (shown) Notification.dismiss(shown.id);
        shown = null;
        return;
      }
      // JupyterLab shows 140 characters.
      const message = say(session.now < session.culled_at ? "idle" : "idleNow", {
        time: minutes(session.now - session.idle_since),
        clock: clock(session, session.culled_at),
      });
      if (shown && shown.idle_since === session.idle_since) {
        Notification.update({ id: shown.id, message }); // does nothing where it was closed
        return;
      }
      const keep = { label: say("keep"), caption: say("keepThis"), displayType: "accent", callback: () => asker.look("POST") };
      shown = {
        id: Notification.warning(message, { autoClose: false, actions: [keep] }),
        idle_since: session.idle_since,
      };
    };
  };

  // The time left: in the status bar, as warnings, and as the moment to save. `tick` is called each second; what it does
  // follows from the time left alone, so that an extension puts everything back.
  class Countdown {
    constructor({ Notification, speak, show, save, openSessions }) {
      Object.assign(this, { Notification, speak, show, save, openSessions, warned: null, saved: Infinity, session: null });
    }

    learn(session) {
      const before = this.ends;
      this.session = session;
      this.heard = Date.now() / 1000;
      this.ends = session.ends;
      // A later end than was said: all warnings and savings are due again.
      if (before && this.ends > before + 30) {
        if (this.warned) {
          this.Notification.dismiss(this.warned.id);
          this.Notification.info(this.speak.say("extended", { clock: this.speak.clock(session, this.ends) }), { autoClose: 10000 });
        }
        this.warned = null;
        this.saved = Infinity;
      }
      this.tick();
    }

    tick() {
      if (!this.ends) return;
      const left = this.ends - this.session.now - (Date.now() / 1000 - this.heard);
      const { say, duration, clock } = this.speak;
      const at = clock(this.session, this.ends);
      this.show(left > 0 ? say("left", { time: duration(left) }) : say("over"), say("until", { clock: at }), left < 10 * MINUTE);
      if (left <= 0) return;
      this.warn(left, at);
      // The smallest mark that has been passed: each is a reason to save once.
      const mark = Math.min(...SAVE_AT.filter((seconds) => left <= seconds));
      if (mark < this.saved) {
        this.saved = mark;
        this.save();
      }
    }

    warn(left, at) {
      const due = Math.min(...WARNINGS.filter((minutes) => left <= minutes * MINUTE));
      if (due === Infinity || (this.warned && this.warned.due <= due)) return;
      if (this.warned) this.Notification.dismiss(this.warned.id);
      const { say, minutes } = this.speak;
      const message = say(due === 2 ? "endsSoon" : "ends", { clock: at, time: minutes(left + 1) });
      const more = { label: say("more"), caption: say("moreThis"), displayType: "link", callback: this.openSessions };
      this.warned = { due, id: this.Notification.warning(message, { autoClose: false, actions: [more] }) };
    }
  }

  // Save every document that has changes. One that can not be saved is named; the others are saved all the same.
  const saver = (app, documents, Notification, { say }) => async () => {
    const contexts = new Set();
    for (const area of ["main", "left", "right", "down"]) {
      for (const widget of app.shell.widgets(area)) {
        const context = documents.contextForWidget(widget);
        if (context?.model?.dirty && !context.model.readOnly) contexts.add(context);
      }
    }
    const all = [...contexts];
    const results = await Promise.allSettled(all.map((context) => context.save()));
    const names = all.filter((_context, number) => results[number].status === "rejected").map(({ path }) => path);
    if (names.length) Notification.error(say("unsaved", { names: names.join(", ") }), { autoClose: false });
  };

  // What is shown in the status bar.
  const statusItem = (Widget, statusBar) => {
    const node = document.createElement("div");
    node.className = "jp-StatusBar-TextItem studiolo-time-left";
    node.style.cssText = "font-variant-numeric: tabular-nums; white-space: nowrap;";
    const widget = new Widget({ node });
    statusBar?.registerStatusItem("studiolo:time-left", { item: widget, align: "right", rank: 1 });
    return (text, title, soon) => {
      if (node.textContent !== text) node.textContent = text;
      node.title = title;
      node.style.fontWeight = soon ? "bold" : "";
    };
  };

  return {
    // For tests.
    parts: { Countdown, languageOf, speaker, TEXTS },
    init: (scope) => {
      shared = scope;
    },
    get: async () => {
      const names = [
        "@jupyterlab/apputils",
        "@jupyterlab/coreutils",
        "@jupyterlab/docmanager",
        "@jupyterlab/services",
        "@jupyterlab/statusbar",
        "@jupyterlab/translation",
        "@lumino/widgets",
      ];
      const [{ Notification }, { PageConfig, URLExt }, { IDocumentManager }, { ServerConnection }, { IStatusBar }, { ITranslator }, { Widget }] =
        await Promise.all(names.map(lab));
      const plugin = {
        id: "studiolo:session",
        description: "Tells what becomes of this session, and saves before its end.",
        autoStart: true,
        requires: [IDocumentManager],
        optional: [IStatusBar, ITranslator],
        activate: (app, documents, statusBar, translator) => {
          const settings = app.serviceManager.serverSettings;
          const url = URLExt.join(settings.baseUrl, "studiolo", "session");
          const speak = speaker(languageOf(translator, navigator.languages));
          const home = URLExt.join(PageConfig.getOption("hubPrefix") || "/hub/", "home");
          const countdown = new Countdown({
            Notification,
            speak,
            show: statusItem(Widget, statusBar),
            save: saver(app, documents, Notification, speak),
            openSessions: () => window.open(home, "_blank", "noopener"),
          });
          setInterval(() => countdown.tick(), 1000);
          const watchers = [idleWarning(Notification, speak), (session) => countdown.learn(session)];
          new Session({ ServerConnection, settings, url, watchers }).look();
        },
      };
      const [{ batch }, { jobs }] = await Promise.all(["batch.js", "jobs.js"].map((name) => import(new URL(name, place))));
      const plugins = [plugin, await batch({ lab, languageOf }), jobs];
      return () => ({ __esModule: true, default: plugins });
    },
  };
})();
