export const View = ({ name }: { name: string }) => <p className="greeting">Hello, {name}</p>;
