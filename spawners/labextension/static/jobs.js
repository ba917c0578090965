// JupyterLab's page "Jobs" is jupyter-scheduler's, which offers what Studiolo has not: schedules, tags, and copies of a
// notebook's folder (a run works in that folder itself). Nobody is to be offered what is refused: those fields are not shown.
const HIDDEN = [
  '.jp-create-job-form .MuiStack-root:has(> [role="radiogroup"] input[value="JobDefinition"])',
  '.jp-create-job-form .MuiFormGroup-root:has(> label input[name="packageInputFolder"])',
  '.jp-create-job-form .MuiAccordion-root:has(input[name="idempotencyToken"])',
  '.jp-notebook-jobs-panel .MuiCard-root:has([id$="advanced-idempotencyToken-label"], [id$="advanced-idempotencyToken"])',
  ".jp-notebook-jobs-panel .MuiTabs-root",
];

export const jobs = {
  id: "studiolo:jobs",
  description: "Leaves out of the page of jobs what there is not.",
  autoStart: true,
  activate: () => {
    const style = document.createElement("style");
    style.textContent = HIDDEN.map((selector) => `${selector} { display: none; }`).join("\n");
    document.head.append(style);
  },
};
