// The page for logging in: works without this script, too.
const password = document.getElementById("password_input");
const show = document.getElementById("studiolo-show-password");
const warning = document.getElementById("insecure-login-warning");

if (warning) warning.hidden = window.isSecureContext;

if (show) {
  show.hidden = false;
  show.addEventListener("click", () => {
    const shown = password.type === "text";
    password.type = shown ? "password" : "text";
    show.setAttribute("aria-pressed", String(!shown));
  });
  // Browsers remember what was typed into a field of text.
  password.form.addEventListener("submit", () => {
    password.type = "password";
  });
}
