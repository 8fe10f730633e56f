# One region's Kubernetes cluster, which runs its routers and the processes of its cells.

variable "name" {
  description = "The region's name in the topology."
  type        = string
}

variable "kubernetes_version" {
  description = "As EKS names it."
  type        = string
}

variable "subnets" {
  description = "Private subnets, one a zone."
  type        = list(string)
}

variable "instance_types" {
  description = "Of its nodes."
  type        = list(string)
  default     = ["c7i.xlarge"]
}

variable "nodes_max" {
  description = "At most so many nodes; at least three, one a zone."
  type        = number
  default     = 24
}

data "aws_iam_policy_document" "cluster" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["eks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "cluster" {
  name               = "cellar-${var.name}-cluster"
  assume_role_policy = data.aws_iam_policy_document.cluster.json
}

resource "aws_iam_role_policy_attachment" "cluster" {
  role       = aws_iam_role.cluster.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"
}

resource "aws_eks_cluster" "this" {
  name     = "cellar-${var.name}"
  role_arn = aws_iam_role.cluster.arn
  version  = var.kubernetes_version

  vpc_config {
    subnet_ids              = var.subnets
    endpoint_private_access = true
    endpoint_public_access  = false
  }

  access_config {
    authentication_mode = "API"
  }

  depends_on = [aws_iam_role_policy_attachment.cluster]
}

data "aws_iam_policy_document" "nodes" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "nodes" {
  name               = "cellar-${var.name}-nodes"
  assume_role_policy = data.aws_iam_policy_document.nodes.json
}

resource "aws_iam_role_policy_attachment" "nodes" {
  for_each   = toset(["AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryReadOnly"])
  role       = aws_iam_role.nodes.name
  policy_arn = "arn:aws:iam::aws:policy/${each.value}"
}

# A group a zone: a volume is of one zone, and its pod must find a node there.
resource "aws_eks_node_group" "zone" {
  count           = length(var.subnets)
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "zone-${count.index}"
  node_role_arn   = aws_iam_role.nodes.arn
  subnet_ids      = [var.subnets[count.index]]
  instance_types  = var.instance_types

  scaling_config {
    min_size     = 1
    desired_size = 1
    max_size     = ceil(var.nodes_max / length(var.subnets))
  }

  lifecycle {
    # An autoscaler changes it.
    ignore_changes = [scaling_config[0].desired_size]
  }

  depends_on = [aws_iam_role_policy_attachment.nodes]
}

data "aws_iam_policy_document" "pods" {
  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]
    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "volumes" {
  name               = "cellar-${var.name}-volumes"
  assume_role_policy = data.aws_iam_policy_document.pods.json
}

resource "aws_iam_role_policy_attachment" "volumes" {
  role       = aws_iam_role.volumes.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"
}

resource "aws_eks_addon" "pod_identity" {
  cluster_name = aws_eks_cluster.this.name
  addon_name   = "eks-pod-identity-agent"
}

resource "aws_eks_addon" "volumes" {
  cluster_name = aws_eks_cluster.this.name
  addon_name   = "aws-ebs-csi-driver"
  pod_identity_association {
    role_arn        = aws_iam_role.volumes.arn
    service_account = "ebs-csi-controller-sa"
  }
  depends_on = [aws_eks_node_group.zone, aws_eks_addon.pod_identity]
}

# Secrets as files: nothing of them is in Terraform's state or in a Kubernetes secret.
resource "aws_eks_addon" "secrets" {
  cluster_name = aws_eks_cluster.this.name
  addon_name   = "aws-secrets-store-csi-driver-provider"
  depends_on   = [aws_eks_node_group.zone]
}

output "name" {
  description = "For `aws eks get-token`."
  value       = aws_eks_cluster.this.name
}

output "security_group" {
  description = "Of its nodes and pods: who may reach the stores."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}
