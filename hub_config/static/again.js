// A page that waits for something to be over looks again by itself, and is loaded anew only when there is news: a page that
// comes anew every few seconds is read out anew every few seconds.
const PAUSE = 3000; // ms
const here = document.querySelector("[data-again]").dataset.again;

async function look() {
  try {
    const answer = await fetch(window.location.href, { redirect: "manual", cache: "no-store" });
    const text = answer.status ? await answer.text() : "";
    const hubAnswers = answer.type === "opaqueredirect" || answer.headers.has("X-JupyterHub-Version");
    if (hubAnswers && !text.includes(`data-again="${here}"`)) {
      window.location.reload();
      return;
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // fetch's word for a network that fails: the hub is away
  }
  setTimeout(look, PAUSE);
}

setTimeout(look, PAUSE);
