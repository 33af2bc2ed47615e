export async function greet(name) {
  const text = await Promise.resolve(`Hello, ${name}`);
  return text ?? "nobody";
}
