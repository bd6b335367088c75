export const render = (version) => `<h1>node ${version}</h1>\n`;
