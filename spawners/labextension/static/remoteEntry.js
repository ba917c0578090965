// The page's part of a session, as a JupyterLab extension without a build: JupyterLab loads this file, hands over what
// it shares (`init`), and asks for the plugin (`get`). The server's part is spawners/session_api.py.
window._JUPYTERLAB = window._JUPYTERLAB || {};
window._JUPYTERLAB.studiolo = (() => {
  const MINUTE = 60;
  let shared = {};

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
        pause = Math.max(2, Math.min(MINUTE, ...next));
      } catch (error) {
        // JupyterLab itself tells that its server does not answer; it may again.
        console.debug("studiolo:", error);
      }
      this.timer = setTimeout(() => this.look(), pause * 1000);
    }
  }

  const minutes = (seconds) => {
    const count = Math.max(1, Math.floor(seconds / MINUTE));
    return count === 1 ? "a minute" : `${count} minutes`;
  };

  // By the clock of the person's own computer, which may not be the server's.
  const clock = (session, at) =>
    new Date(Date.now() + (at - session.now) * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

  // Before an idle session is stopped: what will happen, when, and how to keep it.
  const idleWarning = (Notification) => {
    let shown = null;
    return (session, asker) => {
      if (!session.warned_at || session.now < session.warned_at) {
        if (shown) Notification.dismiss(shown.id);
        shown = null;
        return;
      }
      const when = session.now < session.culled_at ? `at ${clock(session, session.culled_at)}` : "any moment";
      // JupyterLab shows 140 characters.
      const message =
        `Idle for ${minutes(session.now - session.idle_since)}: this session will be stopped ${when}. ` +
        "Run a cell or press Keep. Files stay, what is in memory goes.";
      if (shown && shown.idle_since === session.idle_since) {
        Notification.update({ id: shown.id, message }); // does nothing where it was closed
        return;
      }
      const keep = { label: "Keep", caption: "Keep this session running", displayType: "accent", callback: () => asker.look("POST") };
      shown = {
        id: Notification.warning(message, { autoClose: false, actions: [keep] }),
        idle_since: session.idle_since,
      };
    };
  };

  return {
    init: (scope) => {
      shared = scope;
    },
    get: async () => {
      const names = ["@jupyterlab/apputils", "@jupyterlab/coreutils", "@jupyterlab/services"];
      const [{ Notification }, { URLExt }, { ServerConnection }] = await Promise.all(names.map(lab));
      const plugin = {
        id: "studiolo:session",
        description: "Tells what becomes of this session.",
        autoStart: true,
        activate: (app) => {
          const settings = app.serviceManager.serverSettings;
          const url = URLExt.join(settings.baseUrl, "studiolo", "session");
          new Session({ ServerConnection, settings, url, watchers: [idleWarning(Notification)] }).look();
        },
      };
      return () => ({ __esModule: true, default: plugin });
    },
  };
})();
