// The page of a failure: its report can be copied. Everything else on it works without this script.
const words = JSON.parse(document.getElementById("studiolo-words").textContent);

async function copy(field) {
  try {
    await navigator.clipboard.writeText(field.value);
    return true;
  } catch (error) {
    // No clipboard over plain http, or the browser refuses: the report is shown, selected, to be copied by hand.
    if (!(error instanceof TypeError) && !(error instanceof DOMException)) throw error;
    field.closest("details").open = true;
    field.focus();
    field.select();
    return false;
  }
}

for (const button of document.querySelectorAll("[data-copies]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const copied = await copy(document.getElementById(button.dataset.copies));
    document.getElementById("studiolo-copied").textContent = copied ? words.copied : words.notCopied;
  });
}
